import pytest

from epalm.metrics import tokenize_caption

# Recorded with Stanford CoreNLP 3.4.1 and coco-caption's list of punctuation.
RECORDED = {
    "A man's dog (a black one) isn't sitting on the \"red\" chair, is it?": (
        "a man 's dog -lrb- a black one -rrb- is n't sitting on the red chair is it"
    ),
    "don't CAN'T won't cannot gonna wanna gotta gimme": "do n't ca n't wo n't can not gon na wan na got ta gim me",
    "I'm you're they've he'll she'd it's": "i 'm you 're they 've he 'll she 'd it 's",
    "Mr. Smith met Dr. Jones at 5 p.m. on St. Mary's road.": "mr. smith met dr. jones at 5 p.m. on st. mary 's road",
    "The price is $5.00 or 3,000 dollars at 10:30.": "the price is $ 5.00 or 3,000 dollars at 10:30",
    "black-and-white cat -- running - fast...": "black-and-white cat running fast",
    "1/2 of the cake and/or pie": "1/2 of the cake and/or pie",
    "100% of people & AT&T #5": "100 % of people & at&t # 5",
    "“curly quotes” and ‘single’ and it’s": "curly quotes and single and it 's",
    "hello!!! what?? ok?! Yes!": "hello !!! what ?? ok ?! yes",
    "two-year-old boy's t-shirt from the '90s": "two-year-old boy 's t-shirt from the '90s",
    "No. 1 and no. 5 but no.": "no. 1 and no. 5 but no",
    "The U.S. flag is in plan b.": "the u.s. flag is in plan b.",
    "ain't y'all o'clock ma'am x's and o's": "ai n't y' all o'clock ma'am x 's and o 's",
    "A dog…running [fast] {now}": "a dog running -lsb- fast -rsb- -lcb- now -rcb-",
    "café's привет ½ cup 5:30pm 2/3rds": "café 's привет 1/2 cup 5:30 pm 2/3rds",
    "shouldn't've couldn't've": "should n't 've could n't 've",
    "the dogs' bowl , it .": "the dogs bowl it",
    "cafe\u0301 pre\u0300s-la, fore\u0302t's": "cafe\u0301 pre\u0300s la fore\u0302t 's",
    "एक कुत्ता दौड़ रहा है।": "एक कुत्ता दौड़ रहा है ।",
    "كَلْبٌ يَجْرِي": "كَلْبٌ يَجْرِي",
    "นาย ก้าว ที่นี่": "นาย ก้าว ที่นี่",
    "\ufeffa co\u00adop\u200bdog \U0001f600 runs\x07 \ufffd\u2764\ufe0f ★": "a coop dog runs \u2764 ★",
}


@pytest.mark.parametrize("caption", RECORDED)
def test_tokens_are_those_of_the_reference_tokeniser(caption):
    assert tokenize_caption(caption) == RECORDED[caption].split()


@pytest.mark.parametrize("caption", ["", "   ", "...", " ?  ", '"!"'])
def test_nothing_left(caption):
    assert tokenize_caption(caption) == []
