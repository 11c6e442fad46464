from support.models import random_checkpoint
from tabwise_model.quantize import quantize_checkpoint
from tabwise_model.runners import torch_bench


def test_every_form_is_timed_and_compared_with_float32() -> None:
    checkpoint = quantize_checkpoint(random_checkpoint("llama"))
    found = torch_bench.measure_forms(checkpoint, "cpu", (1, 3), 0.001, prompts=2)
    assert {one.form for one in found} == set(torch_bench.FORMS)
    for one in found:
        assert one.same is not None
        assert one.same > 0.9
        assert one.decode_ms.keys() == {1, 3}
    text = torch_bench.table(found, price=3.6)
    # 3 rows a step at 1 ms: 3,000 tokens a second, a tenth of a cent a second
    one = torch_bench.Figures(form="x", decode_ms={1: 1.0, 3: 1.0}, prefill_ms=2.0)
    assert "| x | 1.00 | 2.00 | 3,000 | 0.0003333 |" in torch_bench.table([one], 3.6)
    assert len(text.splitlines()) == 2 + len(found)
