"""Tokenizers of several kinds, trained here on a few words, and one really pretrained."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
CORPUS = ["what colour is the bus? red blue green", "a red bus stands on the green grass", "is it blue? yes no"] * 4


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def opt_like():
    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="</s>"
    )


def gpt2_like():
    return PreTrainedTokenizerFast(tokenizer_object=byte_level(), bos_token="</s>", eos_token="</s>")


def qwen_like():
    return PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="</s>", pad_token="<pad>")


def sentencepiece_like():
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=specials, show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    # Characters never met are spelt in bytes, which are tokens like any other.
    spec = json.loads(trained.to_str())
    spec["model"]["byte_fallback"] = True
    for byte in range(256):
        spec["model"]["vocab"][f"<0x{byte:02X}>"] = 100 + byte
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def adds_both_ends():
    """A byte-level tokenizer that would end every prompt with its end token."""
    tokenizer = byte_level()
    template = processors.TemplateProcessing(single="<pad> $A </s>", special_tokens=[("<pad>", 0), ("</s>", 1)])
    tokenizer.post_processor = template
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<pad>", eos_token="</s>")


def unigram():
    """Pieces by likelihood, control tokens among them, as XGLM's."""
    vocabulary = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁a", -2.0), ("▁tag", -2.5)]
    vocabulary += [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz<>/"]
    vocabulary += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = sentencepiece_like().backend_tokenizer.decoder
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def chat():
    """As of a chat model: special tokens, and `<think>`, which only the chat template makes a control token."""
    tokenizer = qwen_like()
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<br>", normalized=False)])
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m }}<|im_end|>{% endfor %}<think>"
    return tokenizer


def stories():
    if not (SHARED / "lm-stories260k").is_dir():
        pytest.skip("the shared language model is not on this machine")
    return AutoTokenizer.from_pretrained(SHARED / "lm-stories260k")


# Kind of tokenizer -> how it is made, and what stands in front of a question and of a caption without a cue.
KINDS = {
    "opt": (opt_like, [1], [1]),
    "gpt2": (gpt2_like, [], [1]),
    "qwen": (qwen_like, [], [1]),
    "sentencepiece": (sentencepiece_like, [1], [1]),
    "unigram": (unigram, [0], [0]),
    "chat": (chat, [], [1]),
    "both ends": (adds_both_ends, [0], [0]),
    "stories": (stories, [1], [1]),
}
