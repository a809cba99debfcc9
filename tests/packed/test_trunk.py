import pytest
import torch
import transformers
from tests.packed.harness import (
    CPU,
    NUM_BLOCKS,
    Examples,
    largest_difference,
    make_pool,
    tiny_base,
    train_alone,
    train_packed,
    zoo_trials,
)

from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.packed.inputs import read_inputs
from legion.neuro_architecture.packed.objective import accepts_positions, target_logits
from legion.neuro_architecture.packed.sites import Sites
from legion.neuro_architecture.packed.trunk import find_trunk, through

CLOSE = 1e-5
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def trunk_of(model, kernel="eager"):
    return find_trunk(model, inspect_model(model), kernel)


def head_of(model, trunk):
    """BERT's classifier takes rows, RoBERTa's a sequence of which it reads the first."""
    head = model.get_submodule(trunk.head_name)
    return head if isinstance(head, torch.nn.Linear) else lambda rows: head(rows.unsqueeze(1))


def read(model, trunk, batch):
    return read_inputs(batch, trunk.reading, CPU, pad_token_id=model.config.pad_token_id)


@torch.no_grad()
def bare_pass(model, batch, kernel="eager", *, reads_all=False):
    """Logits of the bare base, block by block."""
    trunk = trunk_of(model, kernel)
    inputs = read(model, trunk, batch)
    context = trunk.context(inputs.mask)
    x = trunk.embed(inputs.batch["input_ids"])
    for index in range(trunk.num_blocks):
        is_read = index == trunk.num_blocks - 1 and not reads_all
        x = through(trunk, index, x, context, Sites.none(), inputs.read_BR if is_read else None)
    if reads_all:
        x = x.gather(2, inputs.read_BR[None, :, :, None].expand(1, -1, -1, x.shape[-1]))
    return head_of(model, trunk)(trunk.rows(x.flatten(1, 2)[:, inputs.rows_N])[0])


@torch.no_grad()
def own_pass(model, batch):
    return target_logits(model, batch, CPU, has_positions=accepts_positions(model))[0]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_bare_pass_gives_the_model_s_own_logits(case, kernel):
    model, examples = tiny_base(*case), Examples(*case)
    for step in range(3):
        _, batch = examples.batch(step)
        assert batch["attention_mask"].min() == 0  # padded
        torch.testing.assert_close(bare_pass(model, batch, kernel), own_pass(model, batch), atol=CLOSE, rtol=0)


def test_batch_without_padding_gives_the_model_s_own_logits(case):
    model, examples = tiny_base(*case), Examples(*case)
    batch = examples.collate([3])
    assert batch["attention_mask"].min() == 1
    torch.testing.assert_close(bare_pass(model, batch), own_pass(model, batch), atol=CLOSE, rtol=0)


def test_last_block_gives_the_same_whether_all_or_only_the_read_positions_are_computed(case):
    model = tiny_base(*case)
    _, batch = Examples(*case).batch(1)
    torch.testing.assert_close(bare_pass(model, batch), bare_pass(model, batch, reads_all=True), atol=1e-6, rtol=0)


@torch.no_grad()
def test_states_before_every_block_are_the_model_s_own(case):
    model = tiny_base(*case)
    trunk = trunk_of(model)
    _, batch = Examples(*case).batch(0)
    named = {name: batch[name] for name in ("input_ids", "attention_mask")}
    own = model.base_model(**named, output_hidden_states=True).hidden_states
    is_text = batch["attention_mask"].bool()
    context, x = trunk.context(batch["attention_mask"]), trunk.embed(batch["input_ids"])
    for index in range(NUM_BLOCKS):
        torch.testing.assert_close(x[0][is_text], own[index][is_text], atol=CLOSE, rtol=0)
        x = through(trunk, index, x, context, Sites.none(), None)


@pytest.mark.parametrize("case_of_rows", [("bert", "labels"), ("llama", "tokens"), ("gpt2", "tokens")])
def test_what_stands_in_the_padding_changes_nothing(case_of_rows):
    model = tiny_base(*case_of_rows)
    _, batch = Examples(*case_of_rows).batch(0)
    garbage = torch.where(batch["attention_mask"] == 0, 17, batch["input_ids"])
    assert torch.equal(bare_pass(model, batch | {"input_ids": garbage}), bare_pass(model, batch))


def test_causal_classifier_reads_where_transformers_reads_though_a_text_holds_the_padding_token():
    model, examples = tiny_base("llama", "labels"), Examples("llama", "labels")
    batch = examples.collate([0, 1, 2, 3])
    batch["input_ids"][1, 2] = model.config.pad_token_id
    last = int(batch["attention_mask"][2].sum()) - 1
    batch["input_ids"][2, last] = model.config.pad_token_id
    torch.testing.assert_close(bare_pass(model, batch), own_pass(model, batch), atol=CLOSE, rtol=0)


def test_grouped_queries_and_biases_are_among_the_cases():
    qwen = tiny_base("qwen2", "tokens")
    attention = qwen.model.layers[0].self_attn
    assert attention.k_proj.out_features < attention.q_proj.out_features
    assert attention.q_proj.bias.abs().min() > 0


@pytest.mark.parametrize("settings", [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}])
def test_gpt2_s_other_scales_of_attention_are_followed(settings):
    config = transformers.GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, pad_token_id=0, initializer_range=0.3, **settings
    )
    model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    _, batch = Examples("gpt2", "tokens").batch(0)
    torch.testing.assert_close(bare_pass(model, batch), own_pass(model, batch), atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("family", "settings", "is_known"),
    [
        ("Mistral", {"sliding_window": None}, True),
        ("Mistral", {"sliding_window": 64}, True),
        ("Mistral", {"sliding_window": 4}, False),
        ("Qwen2", {}, True),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, False),
        ("Llama", {}, True),
        ("Qwen3", {}, False),
        ("Gemma2", {}, False),
    ],
)
def test_only_what_is_known_exactly_has_a_trunk(family, settings, is_known):
    config = getattr(transformers, f"{family}Config")(**SIZES, num_key_value_heads=2, head_dim=8, **settings)
    with torch.device("meta"):
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    assert (trunk_of(model) is not None) == is_known


def test_known_window_as_long_as_the_longest_text_gives_the_model_s_own_logits():
    config = transformers.MistralConfig(
        **SIZES, num_key_value_heads=2, sliding_window=64, pad_token_id=0, initializer_range=0.3
    )
    model = transformers.MistralForCausalLM._from_config(config, attn_implementation="eager").eval()
    _, batch = Examples("mistral", "tokens").batch(0)
    torch.testing.assert_close(bare_pass(model, batch), own_pass(model, batch), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("settings", [{"is_decoder": True}, {"is_decoder": True, "add_cross_attention": True}])
def test_bert_as_a_decoder_has_no_trunk(settings):
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, **settings)).eval()
    assert trunk_of(model) is None


def test_unknown_family_trains_whole_to_peft_s_own_weights():
    family, task = "distilbert", "labels"
    assert trunk_of(tiny_base(family, task)) is None
    pool = make_pool(tiny_base(family, task))
    trials = zoo_trials(family, task, ["lora", "moe-random"])
    for name, trial in trials.items():
        pool.add(name, trial.architecture, trial.recipe, trial.stream)
    assert (pool.is_known, pool.prefix) == (False, None)
    assert set(pool.report().forms.values()) == {"whole"}
    packed, outcomes = train_packed(family, task, trials, 8)
    for name, trial in trials.items():
        alone, last = train_alone(family, task, trial, 8)
        assert largest_difference(packed[name], alone) <= CLOSE
        assert outcomes[name].loss == pytest.approx(last["loss"], abs=1e-6)
