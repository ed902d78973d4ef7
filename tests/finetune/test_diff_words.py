from finetune.diffusion.words import END, LONGEST, PAD, START, Words, split


def test_a_text_begins_ends_and_is_padded():
    words = Words.of(["a red circle", "a blue circle"])

    (row,) = words.encode(["Circle, RED"])

    assert row == [START, words.words.index("circle") + 3, words.words.index("red") + 3, END, PAD]


def test_words_that_no_caption_had_are_told_and_left_out():
    words = Words.of(["a red circle"])

    assert words.unknown("a white circle!") == ["white", "!"]
    assert words.encode(["a white circle!"]) == words.encode(["a circle"])


def test_text_without_spaces_is_read_sign_by_sign():
    assert split("赤い丸 and 3 cats") == ["赤", "い", "丸", "and", "3", "cats"]


def test_what_is_too_long_is_cut_and_still_ends():
    words = Words.of([" ".join(f"w{i}" for i in range(200))])

    (row,) = words.encode([" ".join(f"w{i}" for i in range(200))])

    assert len(row) == LONGEST == words.length
    assert row[-1] == END


def test_words_come_back_from_json():
    words = Words.of(["a red circle"])

    assert Words.read(words.as_dict()) == words
