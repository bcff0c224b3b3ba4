"""COCO, Flickr, nocaps, TextCaps and VizWiz captions, in their official layouts."""

from data.published.published_layouts import fill, read


def _karpathy(name, split, *captions, **changes):
    return {"filename": name, "split": split, "sentences": [{"raw": text} for text in captions]} | changes


def test_karpathys_coco_restval_is_train(tmp_path):
    images = [
        _karpathy(
            "COCO_val2014_000000000042.jpg", "restval", "A dog. ", " A  dog\nruns", cocoid=42, filepath="val2014"
        ),
        _karpathy("COCO_train2014_000000000009.jpg", "train", "A cat", cocoid=9, filepath="train2014"),
        _karpathy("COCO_val2014_000000000073.jpg", "test", "A bus", " ", cocoid=73, filepath="val2014"),
        _karpathy("COCO_val2014_000000000074.jpg", "val", "", cocoid=74, filepath="val2014"),
    ]
    media = ["images/val2014/COCO_val2014_000000000042.jpg", "train2017/000000000009.jpg", "val2014/x.jpg"]
    fill(tmp_path, {"dataset_coco.json": {"images": images, "dataset": "coco"}}, media)
    train = read("coco_captions", tmp_path, "train")
    assert [row.id for row in train.rows] == ["42", "9"]
    assert train.rows[0].targets == ("A dog.", "A dog runs")
    assert train.rows[1].media == {"image": tmp_path / "train2017/000000000009.jpg"}  # the same picture
    test = read("coco_captions", tmp_path, "test")
    assert (test.rows, test.missing, test.media) == ([], {"COCO_val2014_000000000073.jpg": 1}, 1)
    assert read("coco_captions", tmp_path, "val").left_out == {"has no caption that is left": 1}


def test_official_coco(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "COCO_val2014_000000000007.jpg"}],
        "annotations": [{"image_id": 7, "id": 1, "caption": "One."}, {"image_id": 7, "id": 2, "caption": "Two."}],
    }
    fill(
        tmp_path,
        {
            "annotations/captions_val2014.json": content,
            "annotations/image_info_test2014.json": {"images": [{"id": 8, "file_name": "t.jpg"}]},
        },
        ["val2014/COCO_val2014_000000000007.jpg", "test2014/t.jpg"],
    )
    assert read("coco_captions", tmp_path, "val2014").rows[0].targets == ("One.", "Two.")
    assert read("coco_captions", tmp_path, "test2014").rows[0].targets == ()


def test_flickr(tmp_path):
    fill(
        tmp_path,
        {
            "dataset_flickr30k.json": {"images": [_karpathy("100.jpg", "train", "A dog .", imgid=0)]},
            "results_20130124.token": "100.jpg#0\tA dog .\n100.jpg#1\tDogs , two .\n",
            "Flickr8k_text/Flickr8k.token.txt": "1_a.jpg#0\tA boy .\n1_a.jpg#1\tA child .\n2_b.jpg.1#0\tLost .\n",
            "Flickr8k_text/Flickr_8k.trainImages.txt": "1_a.jpg\n2_b.jpg\n",
        },
        ["flickr30k-images/100.jpg", "Flicker8k_Dataset/1_a.jpg"],
    )
    assert read("flickr30k", tmp_path, "train").rows[0].id == "100"
    assert read("flickr30k", tmp_path, "all").rows[0].targets == ("A dog .", "Dogs , two .")
    found = read("flickr8k", tmp_path, "train")
    assert [(row.id, row.targets) for row in found.rows] == [("1_a", ("A boy .", "A child ."))]
    assert found.left_out == {"has no caption that is left": 1}
    assert found.layout == "official"


def test_nocaps_domains_and_a_test_split_without_captions(tmp_path):
    image = {"id": 3, "open_images_id": "0013ea", "file_name": "0013ea.jpg", "domain": "near-domain"}
    fill(
        tmp_path,
        {
            "nocaps_val_4500_captions.json": {
                "images": [image],
                "annotations": [{"image_id": 3, "id": 0, "caption": "A baby."}],
            },
            "nocaps_test_image_info.json": {"images": [image | {"file_name": "0013ea.jpg"}]},
        },
        ["val/0013ea.jpg"],
    )
    row = read("nocaps", tmp_path, "val").rows[0]
    assert (row.id, row.targets, row.groups) == ("3", ("A baby.",), {"domain": "near-domain"})
    assert read("nocaps", tmp_path, "test").rows[0].targets == ()


def test_textcaps_has_an_entry_for_each_caption(tmp_path):
    entries = [{"image_id": "a0", "caption_str": text, "reference_strs": ["One", "Two"]} for text in ("One", "Two")]
    fill(
        tmp_path,
        {"TextCaps_0.1_val.json": {"data": entries}, "TextCaps_0.1_test.json": {"data": [{"image_id": "a0"}]}},
        ["train_images/a0.jpg"],
    )
    assert [row.targets for row in read("textcaps", tmp_path, "val").rows] == [("One", "Two")]
    assert [row.targets for row in read("textcaps", tmp_path, "test").rows] == [()]


def test_vizwiz_captions_that_do_not_count(tmp_path):
    def caption(image, text, **flags):
        return {"image_id": image, "caption": text, "is_precanned": False, "is_rejected": False} | flags

    images = [{"id": i, "file_name": f"VizWiz_val_0000000{i}.jpg"} for i in (0, 1)]
    annotations = [
        caption(0, "A can of soup"),
        caption(0, "Quality issues are too severe to recognize visual content.", is_precanned=True),
        caption(1, "spam", is_rejected=True),
    ]
    fill(
        tmp_path,
        {"annotations/val.json": {"images": images, "annotations": annotations}},
        ["val/VizWiz_val_00000000.jpg", "val/VizWiz_val_00000001.jpg"],
    )
    found = read("vizwiz_captions", tmp_path, "val")
    assert [(row.id, row.targets) for row in found.rows] == [("0", ("A can of soup",))]
    assert found.left_out == {"has no caption that is left": 1}
