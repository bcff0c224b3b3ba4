import pytest
import torch

from epalm.data.collate import IGNORED, Encoded, collate

# Begin-of-text is 2, the end token 3, padding 0.
ROWS = [Encoded([2, 10, 11, 12], [20, 3]), Encoded([2, 13], [21, 22, 3])]
_ = IGNORED


def test_right_padding_and_answer_labels():
    batch = collate(ROWS, 0)
    assert batch.input_ids.tolist() == [[2, 10, 11, 12, 20, 3], [2, 13, 21, 22, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]
    assert batch.labels.tolist() == [[_, _, _, _, 20, 3], [_, _, 21, 22, 3, _]]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {torch.long}


def test_left_padding():
    batch = collate(ROWS, 0, side="left")
    assert batch.input_ids.tolist()[1] == [0, 2, 13, 21, 22, 3]
    assert batch.attention_mask.tolist()[1] == [0, 1, 1, 1, 1, 1]
    assert batch.labels.tolist()[1] == [_, _, _, 21, 22, 3]


def test_all_tokens_are_labels_but_the_first():
    batch = collate(ROWS, 0, loss_on="all")
    assert batch.labels.tolist() == [[_, 10, 11, 12, 20, 3], [_, 13, 21, 22, 3, _]]


def test_a_pad_id_that_is_a_real_token_never_becomes_a_label():
    # Many tokenisers pad with the end token: the real one must stay a label, the padding must not.
    batch = collate(ROWS, 3, loss_on="all")
    assert batch.labels.tolist()[1] == [_, 13, 21, 22, 3, _]


def test_prompts_to_generate_from():
    batch = collate([([2, 10, 11], []), ([2], [])], 0, side="left")
    assert batch.input_ids.tolist() == [[2, 10, 11], [0, 0, 2]]
    assert (batch.labels == IGNORED).all()


def test_moves_to_a_device():
    assert collate(ROWS, 0).to("meta").labels.device.type == "meta"


@pytest.mark.parametrize("rows", [[], [([], [3])]])
def test_nothing_to_start_from(rows):
    with pytest.raises(ValueError, match="a prompt in every row"):
        collate(rows, 0)
