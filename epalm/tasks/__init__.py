"""Tasks: captioning and question answering as text, for any tokenizer."""

from epalm.tasks.base import TASKS, Task
from epalm.tasks.captioning import Captioning
from epalm.tasks.question_answering import QuestionAnswering
from epalm.tasks.taskset import Tasks
from epalm.tasks.template import TextTemplate

__all__ = ["TASKS", "Captioning", "QuestionAnswering", "Task", "Tasks", "TextTemplate"]
