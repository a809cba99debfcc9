"""Encoding: truncation keeps what the loss needs, padding is on the right side, buckets lose nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, ModelError
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.encoding import TaskEncoder, length_buckets
from legion.neuro_architecture.data.examples import Example
from legion.neuro_architecture.spec.task import TaskSpec

CLASSES = TaskSpec(name="c", kind="classification", labels=("bad", "good"))
HEADLINES = TaskSpec(name="s", kind="summarization", target_column="headline", metric="rouge_l")
TEMPLATE = (
    "{% for m in messages %}<eos> {{ m['content'] }} <eos>{% endfor %}{% if add_generation_prompt %} a :{% endif %}"
)


def example(text="the good film", target="good") -> Example:
    return Example(id="1", text=text, target=target)


@pytest.fixture
def tokenizer_of(tiny_folders, settings):
    return lambda family: resolve_base(str(tiny_folders[family]), settings).tokenizer()


@pytest.fixture
def classes(tokenizer_of):
    return TaskEncoder(tokenizer_of("bert"), CLASSES, max_tokens=16)


@pytest.fixture(params=["llama", "gpt2", "chat"])
def causal(request, tokenizer_of):
    """A tokenizer without and with a chat template."""
    tokenizer = tokenizer_of("llama" if request.param == "chat" else request.param)
    if request.param == "chat":
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def headlines(tokenizer, max_tokens=96) -> TaskEncoder:
    return TaskEncoder(tokenizer, HEADLINES, max_tokens=max_tokens)


def target_of(encoded):
    return [label for label in encoded.labels if label != -100]


def test_label_is_its_index_in_the_task(classes):
    assert classes.encode(example(target="bad")).labels == 0
    assert classes.encode(example(target="good")).labels == 1


def test_classification_text_is_framed_and_cut_to_max_tokens(classes):
    short = classes.encode_text("good film")
    assert short == classes._tokenizer("good film")["input_ids"]
    long = classes.encode_text("good film " * 50)
    assert len(long) == 16
    assert (long[0], long[-1]) == (short[0], short[-1])


def test_unknown_label_is_refused(classes):
    with pytest.raises(InvalidValueError, match="odd"):
        classes.encode(example(target="odd"))


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_blank_text_is_refused(classes, text):
    with pytest.raises(InvalidValueError, match="blank"):
        classes.encode_text(text)


def test_all_at_once_is_the_same_as_one_by_one(classes, causal):
    examples = [example(), example("a book " * 9, "bad"), example("very quite old", "good")]
    for encoder in (classes, headlines(causal)):
        assert encoder.encode_all(examples) == [encoder.encode(each) for each in examples]
        texts = [each.text for each in examples]
        assert encoder.encode_texts(texts) == [encoder.encode_text(text) for text in texts]
    assert classes.encode_all([]) == classes.encode_texts([]) == []


def test_loss_covers_target_and_end_token_only(causal):
    encoded = headlines(causal).encode(example("the film with a man", "good film"))
    words = causal("good film", add_special_tokens=False)["input_ids"]
    assert target_of(encoded) == [*words, causal.eos_token_id]
    assert len(encoded.labels) == len(encoded.input_ids)
    start = len(encoded.labels) - len(words) - 1
    assert encoded.labels[:start] == [-100] * start
    assert encoded.input_ids[start:] == encoded.labels[start:]


def test_prompt_of_use_is_the_prompt_of_training(causal):
    for text in ("the film", "the film with a man " * 30):
        encoder = headlines(causal)
        prompt = encoder.encode_text(text)
        assert encoder.encode(example(text, "good film")).input_ids[: len(prompt)] == prompt


def test_long_article_is_cut_and_the_target_is_not(causal):
    encoder = headlines(causal)
    encoded = encoder.encode(example("the film with a man " * 100, "good film"))
    assert len(encoded.input_ids) <= 96
    assert target_of(encoded)[-1] == causal.eos_token_id
    assert len(target_of(encoded)) == 3
    after = encoder.encode(example("the", "good film")).input_ids
    tail = len(after) - after.index(causal("the")["input_ids"][0])
    assert encoded.input_ids[-(tail - 1) :] == after[-(tail - 1) :]  # what follows the article is whole


def test_long_target_keeps_its_end_token_and_leaves_room_for_the_article(causal):
    encoded = headlines(causal).encode(example("the film " * 100, "good " * 200))
    assert len(encoded.input_ids) <= 96
    assert 20 < len(target_of(encoded)) < 60
    assert target_of(encoded)[-1] == causal.eos_token_id


def test_too_few_tokens_for_the_prompt_is_refused(causal):
    with pytest.raises(InvalidValueError, match="5 tokens are too few"):
        headlines(causal, max_tokens=5)


def test_chat_template_frames_the_article(tokenizer_of):
    tokenizer = tokenizer_of("llama")
    tokenizer.chat_template = TEMPLATE
    prompt = headlines(tokenizer).encode_text("the film")
    assert prompt[0] == tokenizer.eos_token_id
    assert tokenizer.decode(prompt[-4:]) == "film <eos> a :"


def test_template_that_drops_the_words_is_refused(tokenizer_of):
    tokenizer = tokenizer_of("llama")
    tokenizer.chat_template = "hello"
    with pytest.raises(ModelError, match="chat template"):
        headlines(tokenizer)


def test_control_tokens_in_a_text_stay_text(classes, causal):
    sep = classes._tokenizer.sep_token_id
    assert classes.encode_text("good [SEP] film").count(sep) == 1
    encoder = headlines(causal)
    plain = encoder.encode_text("good film").count(causal.eos_token_id)
    assert encoder.encode_text("good <eos> film").count(causal.eos_token_id) == plain


def test_plain_text_stands_without_prompt_and_all_but_its_first_token_are_labels(causal):
    encoder = headlines(causal)
    plain, short = encoder.encode_plain(["the good film is long", "film"])
    assert plain.labels == [-100, *plain.input_ids[1:]]
    assert len(plain.input_ids) == len(short.input_ids) + 4
    assert len(plain.input_ids) < len(encoder.encode_text("the good film is long"))
    padded = encoder.collate([plain, short])["labels"][1]
    assert padded[len(short.input_ids) :].eq(-100).all()


def test_plain_text_is_refused_where_it_is_blank_or_nobody_foretells(causal, classes):
    with pytest.raises(InvalidValueError, match="blank"):
        headlines(causal).encode_plain(["film", " "])
    with pytest.raises(InvalidValueError, match="causal"):
        classes.encode_plain(["film"])


def test_collate_pads_right_and_masks(classes):
    items = [classes.encode(example("good")), classes.encode(example("the old man", "bad"))]
    batch = classes.collate(items)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 5)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["input_ids"][0, 3:].tolist() == [classes._tokenizer.pad_token_id] * 2
    assert batch["labels"].tolist() == [1, 0]


def test_collate_never_counts_padding_in_the_loss(causal):
    encoder = headlines(causal)
    items = [encoder.encode(example("the film")), encoder.encode(example("the film with a man", "good old film"))]
    batch = encoder.collate(items)
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert batch["labels"][0][batch["attention_mask"][0] == 1].tolist() == items[0].labels


def test_prompts_are_padded_left_for_a_causal_model_and_right_for_a_classifier(classes, causal):
    for encoder, mask in ((headlines(causal), [0, 1]), (classes, [1, 0])):
        prompts = [encoder.encode_text("good"), encoder.encode_text("good good")]
        batch = encoder.collate_prompts(prompts)
        assert set(batch) == {"input_ids", "attention_mask"}
        row = batch["attention_mask"][0].tolist()
        assert [row[0], row[-1]] == mask
        assert batch["input_ids"][0][batch["attention_mask"][0] == 1].tolist() == prompts[0]


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 20), st.integers(0, 9))
def test_buckets_hold_every_index_once(lengths, batch_size, seed):
    batches = length_buckets(lengths, batch_size, random.Random(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert batches == length_buckets(lengths, batch_size, random.Random(seed))


def test_buckets_pad_less_than_half_as_much_as_chance():
    draw = random.Random(0)
    lengths = [int(draw.lognormvariate(3.5, 0.6)) + 1 for _ in range(2000)]

    def padding(batches):
        return sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches)

    order = list(range(2000))
    draw.shuffle(order)
    chance = [order[start : start + 16] for start in range(0, 2000, 16)]
    assert padding(length_buckets(lengths, 16, random.Random(1))) < 0.2 * padding(chance)


def test_batch_size_below_one_is_refused():
    with pytest.raises(InvalidValueError):
        length_buckets([1, 2], 0, random.Random(0))
