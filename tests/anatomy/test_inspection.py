"""The anatomy of every family that is understood, and what is said of those that are not."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from legion.foundation.errors import ModelError
from legion.neuro_architecture.adapters import BottleneckAdapter, LoRAAdapter, MoEAdapter
from legion.neuro_architecture.anatomy import FfnSite, inspect_model
from legion.neuro_architecture.anatomy.inspection import activation_name

BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 64,
}
LLAMA = BERT | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "vocab_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 64}

BERT_LINEARS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
LLAMA_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

CONFIGS = {
    "bert": transformers.BertConfig(**BERT),
    "roberta": transformers.RobertaConfig(**BERT),
    "electra": transformers.ElectraConfig(**BERT, embedding_size=16),
    "distilbert": transformers.DistilBertConfig(**DISTILBERT),
    "llama": transformers.LlamaConfig(**LLAMA),
    "mistral": transformers.MistralConfig(**LLAMA),
    "qwen2": transformers.Qwen2Config(**LLAMA),
    "qwen3": transformers.Qwen3Config(**LLAMA),
    "gemma": transformers.GemmaConfig(**LLAMA),
    "gemma2": transformers.Gemma2Config(**LLAMA),
    "gpt2": transformers.GPT2Config(**GPT2),
}
BERT_LIKE = ("bert", "roberta", "electra")
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")
DECODERS = (*LLAMA_LIKE, "gpt2")


def on_meta(family, auto=AutoModel):
    with torch.device("meta"):
        return auto.from_config(CONFIGS[family])


@pytest.mark.parametrize("family", CONFIGS)
def test_widths_come_from_the_modules(family):
    anatomy = inspect_model(on_meta(family))
    assert (anatomy.model_type, anatomy.num_layers) == (family, 2)
    assert (anatomy.hidden_size, anatomy.intermediate_size) == (32, 48)
    assert (anatomy.num_attention_heads, anatomy.vocab_size) == (4, 64)
    assert [layer.index for layer in anatomy.layers] == [0, 1]


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_every_path_leads_to_a_module_of_the_stated_width(family, auto):
    model = on_meta(family, auto)
    for layer in inspect_model(model).layers:
        model.get_submodule(layer.path)
        model.get_submodule(layer.par.path)
        model.get_submodule(layer.seq.path)
        for linear in layer.linears:
            shape = tuple(model.get_submodule(linear.path).weight.shape)
            widths = (linear.in_features, linear.out_features)
            assert shape == (widths if linear.is_transposed else widths[::-1])
            assert linear.path.endswith(f".{linear.name}")


@pytest.mark.parametrize("family", CONFIGS)
def test_names_are_unique_inside_a_block(family):
    for layer in inspect_model(on_meta(family)).layers:
        names = [linear.name for linear in layer.linears]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("family", BERT_LIKE)
def test_encoder_names_and_sites(family):
    anatomy = inspect_model(on_meta(family))
    assert anatomy.linear_names == BERT_LINEARS
    assert anatomy.layers[1].par == FfnSite(path="encoder.layer.1.output", style="residual")
    assert anatomy.layers[1].seq == FfnSite(path="encoder.layer.1.output.dense", style="output")
    assert (anatomy.non_linearity, anatomy.is_ffn_gated) == ("gelu", False)


def test_distilbert_names_and_sites():
    anatomy = inspect_model(on_meta("distilbert"))
    assert anatomy.linear_names == ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")
    assert anatomy.layers[0].par == anatomy.layers[0].seq == FfnSite(path="transformer.layer.0.ffn", style="output")


@pytest.mark.parametrize("family", LLAMA_LIKE)
def test_gated_decoder_names_and_sites(family):
    anatomy = inspect_model(on_meta(family))
    assert anatomy.linear_names == LLAMA_LINEARS
    assert anatomy.layers[1].par == anatomy.layers[1].seq == FfnSite(path="layers.1.mlp", style="output")
    assert anatomy.is_ffn_gated
    assert anatomy.non_linearity == ("gelu" if family.startswith("gemma") else "silu")


def test_gpt2_weights_are_stored_transposed():
    anatomy = inspect_model(on_meta("gpt2"))
    assert anatomy.linear_names == ("c_attn", "attn.c_proj", "c_fc", "mlp.c_proj")
    assert all(linear.is_transposed for layer in anatomy.layers for linear in layer.linears)
    assert (anatomy.layers[0].linears[0].in_features, anatomy.layers[0].linears[0].out_features) == (32, 96)


def test_exact_activation_is_told_apart():
    assert activation_name(on_meta("gpt2")) == "gelu_new"
    assert activation_name(on_meta("bert")) == "gelu"


@pytest.mark.parametrize(
    ("family", "heads"),
    [
        *((family, ("classifier",)) for family in BERT_LIKE),
        *((family, ("score",)) for family in DECODERS),
        ("distilbert", ("pre_classifier", "classifier")),
    ],
)
def test_classifier_head_is_found(family, heads):
    anatomy = inspect_model(on_meta(family, AutoModelForSequenceClassification))
    assert (anatomy.head_modules, anatomy.is_causal) == (heads, False)


@pytest.mark.parametrize("family", DECODERS)
def test_causal_model_has_no_head_to_train(family):
    anatomy = inspect_model(on_meta(family, AutoModelForCausalLM))
    assert (anatomy.head_modules, anatomy.is_causal) == ((), True)
    assert not any("lm_head" in linear.path for layer in anatomy.layers for linear in layer.linears)


@pytest.mark.parametrize("family", CONFIGS)
def test_bare_model_is_neither_causal_nor_headed(family):
    anatomy = inspect_model(on_meta(family))
    assert (anatomy.head_modules, anatomy.is_causal) == ((), False)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_every_weight_is_counted_once(family, auto):
    model = on_meta(family, auto)
    assert inspect_model(model).num_parameters == sum(weight.numel() for weight in model.parameters())


def test_tied_embeddings_are_counted_once():
    model = on_meta("gpt2", AutoModelForCausalLM)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert inspect_model(model).num_parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize(
    "adapter", [LoRAAdapter(rank=2), BottleneckAdapter(4), BottleneckAdapter(4, placement="seq"), MoEAdapter(2, 1)]
)
def test_anatomy_is_the_same_with_an_adapter_on(family, adapter):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(CONFIGS[family])
    bare = inspect_model(model)
    adapted = adapter.apply(model)
    assert inspect_model(adapted) == bare
    assert inspect_model(adapted.get_base_model()) == bare


def test_two_stacks_are_refused():
    config = transformers.BartConfig(d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=64)
    with torch.device("meta"), pytest.raises(ModelError, match="2 stacks") as caught:
        inspect_model(AutoModel.from_config(config))
    assert "encoder.layers, decoder.layers" in caught.value.cause


def test_block_without_a_known_feed_forward_network_is_named():
    config = transformers.OPTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32, vocab_size=64
    )
    with torch.device("meta"), pytest.raises(ModelError, match=r"decoder\.layers\.0 \(OPTDecoderLayer\)"):
        inspect_model(AutoModel.from_config(config))


def test_mixture_as_base_is_refused():
    with torch.device("meta"), pytest.raises(ModelError, match="0 linear layers"):
        inspect_model(AutoModel.from_config(transformers.MixtralConfig(**LLAMA)))


def test_unknown_activation_is_named():
    with torch.device("meta"), pytest.raises(ModelError, match="'tanh'"):
        inspect_model(AutoModel.from_config(transformers.BertConfig(**BERT, hidden_act="tanh")))


def test_something_else_than_a_transformer_is_refused():
    with pytest.raises(ModelError, match="Linear is not a transformers model"):
        inspect_model(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_norm_behind_the_last_block_tells_who_writes_to_a_bare_residual_stream(family, auto):
    """RMSNorm has a weight, LayerNorm a bias too; blocks of BERT's kind end in a norm of their own."""
    expected = 64 if family == "gpt2" else 32 if family in LLAMA_LIKE else 0
    assert inspect_model(on_meta(family, auto)).final_norm_parameters == expected


@pytest.mark.parametrize("family", CONFIGS)
def test_feed_forward_network_ends_with_the_linear_that_writes_its_output(family):
    for layer in inspect_model(on_meta(family)).layers:
        linears = layer.ffn_linears
        assert len(linears) == (3 if family in LLAMA_LIKE else 2)
        assert (linears[-1].in_features, linears[-1].out_features) == (48, 32)
