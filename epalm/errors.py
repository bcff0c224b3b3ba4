"""What can go wrong through the user's input, each said in one line: what, where, and what to do.

The command line prints the message and exits with code 2. Any other exception is a bug of ours and exits with code 1.
"""

_LFS_POINTER = b"version https://git-lfs"


class EpalmError(Exception):
    """Base of every error that the user can mend. Its message is one line."""


class ConfigError(EpalmError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class DataError(EpalmError):
    """A manifest or one of its rows is unusable; the message names the file and the row."""


class MediaError(EpalmError):
    """A picture, clip or recording cannot be read; the message names the file and the reason."""


class UnsupportedModelError(EpalmError):
    """A language model or an encoder cannot be served; said when the model is built, never later."""


class AdapterError(EpalmError):
    """A saved adapter is damaged, incomplete, or does not fit the backbones it is loaded onto."""


class TrainingStopped(Exception):
    """No error: the run was asked to stop by a signal, and has been saved. The message says how it goes on.

    Args:
        message: one line.
        number: the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
        """As shells count: 130 after Ctrl-C, 143 after SIGTERM."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room, which says nothing about what was tried."""
    # By name, so that nothing here has to import torch.
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error)
    )


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so is what Git LFS leaves in the place of one that it has not fetched."""
    return head.startswith(_LFS_POINTER)
