"""Spans in the hands of those who read them: an app with OpenTelemetry's SDK, Phoenix, MLflow.

The last two are heavy servers, each in a virtual environment of its own, and run only when asked:

    python3 -m venv phoenix && phoenix/bin/pip install arize-phoenix
    python3 -m venv mlflow && mlflow/bin/pip install mlflow
    MODELSPEND_PHOENIX=phoenix MODELSPEND_MLFLOW=mlflow \\
        pytest -m full tests/exporters/test_otlp_readers.py
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.propagate import inject
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modelspend.exporters.spans import spans_of
from modelspend.receipt import Receipt
from modelspend.simulator import Simulator
from tests.fakes.foreign import free_port, server
from tests.fakes.sidecar import Sidecar, sidecar_for
from tests.fakes.sink import far_end


class App:
    """An app whose work is traced by OpenTelemetry's own SDK, and that calls models through us."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self._tracer = provider.get_tracer("an app")

    async def work(self, sidecar: Sidecar, model: str = "sim/sim-tokens-1000-200") -> Receipt:
        headers: dict[str, str] = {}
        with self._tracer.start_as_current_span("answer a question"):
            inject(headers)
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            _, said, _ = await sidecar.post("/v1/chat/completions", body, headers=headers)
        return await sidecar.receipt_of(said)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._memory.get_finished_spans()


def to(url: str, protocol: str) -> dict[str, Any]:
    return {"endpoint": url, "allow_private": True, "protocol": protocol}


async def test_our_spans_lie_in_the_trace_of_an_app_that_uses_the_sdk(
    tmp_path: Path, simulator: Simulator
) -> None:
    app = App()
    async with (
        far_end() as far,
        sidecar_for(tmp_path, simulator.url, otlp=to(far.url, "http/protobuf")) as sidecar,
    ):
        receipts = [await app.work(sidecar) for _ in range(3)]
        sent: list[Any] = []
        while len({span.trace_id for span in sent}) < 3:
            await far.until(len(far.got) or 1)
            sent = [
                span
                for head, body in far.got
                for group in ExportTraceServiceRequest.FromString(
                    unpacked(head, body)
                ).resource_spans
                for scope in group.scope_spans
                for span in scope.spans
            ]
            await asyncio.sleep(0.02)
    for receipt, theirs in zip(receipts, app.spans, strict=True):
        context = theirs.get_span_context()
        assert context is not None
        trace = context.trace_id.to_bytes(16, "big")
        assert receipt.trace_id == trace.hex()
        ours = [span for span in sent if span.trace_id == trace]
        (call,) = (
            span for span in ours if span.parent_span_id == context.span_id.to_bytes(8, "big")
        )
        assert call.name == "modelspend chat"
        assert {s.parent_span_id for s in ours if s is not call} == {call.span_id}


def unpacked(head: Mapping[str, str], body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body) if head.get("content-encoding") == "gzip" else body


# Servers that people run.


def environment(name: str) -> Path:
    folder = os.environ.get(name)
    if not folder:
        pytest.skip(f"set {name} to a virtual environment that has it")
    return Path(folder).absolute()


def flat(shape: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Attributes by their dotted names, however deep a server has put them."""
    found: dict[str, Any] = {}
    for key, value in shape.items():
        name = f"{before}{key}"
        found.update(flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return found


def compare(got: Mapping[str, Any], receipts: list[Receipt], app: App) -> None:
    """Every span came back, in the app's trace, with the costs of the receipt; `got` is by span."""
    ours = {span.span_id: span for receipt in receipts for span in spans_of(receipt)}
    assert ours.keys() <= got.keys()
    for span_id, span in ours.items():
        assert got[span_id]["trace_id"] == span.trace_id
        assert (got[span_id]["parent_id"] or None) == span.parent_id
    for receipt, theirs in zip(receipts, app.spans, strict=True):
        context = theirs.get_span_context()
        assert context is not None
        mine = [one for one in got.values() if one["trace_id"] == f"{context.trace_id:032x}"]
        (call,) = (one for one in mine if one["parent_id"] == f"{context.span_id:016x}")
        cost = receipt.execution.actual_cost_pico
        assert cost
        assert call["attributes"]["modelspend.receipt_id"] == receipt.receipt_id
        assert int(call["attributes"]["modelspend.cost.total_pico_usd"]) == cost
        assert pico(call["attributes"]["modelspend.cost.total_usd"]) == cost
        assert sum(pico(one["attributes"].get("modelspend.cost.usd", 0)) for one in mine) == cost
    print(f"{len(ours)} spans and the costs of {len(receipts)} receipts read back")


def pico(usd: object) -> int:
    return int(Decimal(str(usd)) * 10**12)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_phoenix_reads_protobuf_and_gives_spans_and_costs_back(
    tmp_path: Path, simulator: Simulator
) -> None:
    home, port, app = environment("MODELSPEND_PHOENIX"), free_port(), App()
    url = f"http://127.0.0.1:{port}"
    env = {
        "PHOENIX_WORKING_DIR": str(tmp_path / "phoenix"),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    place, command = tmp_path / "phoenix", str(home / "bin" / "phoenix")
    async with (
        server(place, command, "serve", ready=f"{url}/healthz", env=env) as client,
        sidecar_for(tmp_path / "ours", simulator.url, otlp=to(url, "http/protobuf")) as sidecar,
    ):
        receipts = [await app.work(sidecar) for _ in range(5)]
        got: dict[str, Any] = {}
        ours = {span.span_id for receipt in receipts for span in spans_of(receipt)}
        async with asyncio.timeout(60):
            while not ours <= got.keys():
                await asyncio.sleep(0.2)
                path = f"{url}/v1/projects/default/spans?limit=1000"
                async with client.get(path) as answer:
                    told = json.loads(await answer.read()) if answer.status == 200 else {"data": []}
                for span in told["data"]:
                    got[span["context"]["span_id"]] = {
                        "trace_id": span["context"]["trace_id"],
                        "parent_id": span["parent_id"],
                        "attributes": flat(span["attributes"]),
                    }
    compare(got, receipts, app)


_READ_MLFLOW = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
found = mlflow.search_traces(locations=["0"], return_type="list", max_results=500)
print(json.dumps([span.to_dict() for trace in found for span in trace.data.spans]))
"""


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_mlflow_reads_json_and_gives_spans_and_costs_back(
    tmp_path: Path, simulator: Simulator
) -> None:
    home, port, app = environment("MODELSPEND_MLFLOW"), free_port(), App()
    url = f"http://127.0.0.1:{port}"
    command = (
        str(home / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db",
    )  # fmt: skip
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    place = tmp_path / "mlflow"
    async with (
        server(place, *command, ready=f"{url}/health", env={"PATH": path}),
        sidecar_for(
            tmp_path / "ours",
            simulator.url,
            otlp=to(url, "http/json"),
            env={"OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=0"},
        ) as sidecar,
    ):
        receipts = [await app.work(sidecar) for _ in range(5)]
        while (await sidecar.store.sinks.standings(0))[0].sent < len(receipts):
            await asyncio.sleep(0.1)
        read = await asyncio.create_subprocess_exec(
            str(home / "bin" / "python"), "-c", _READ_MLFLOW, url,
            cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await read.communicate()
        assert read.returncode == 0, err.decode()
    got = {}
    for span in json.loads(out):
        attributes = {name: _plain(value) for name, value in span["attributes"].items()}
        got[_hex(span["span_id"])] = {
            "trace_id": _hex(span["trace_id"]),
            "parent_id": _hex(span["parent_span_id"]) if span.get("parent_span_id") else None,
            "attributes": attributes,
        }
    compare(got, receipts, app)


def _hex(written: str) -> str:
    """MLflow writes ids as OTLP's protobuf does in JSON: base64."""
    import base64

    return base64.b64decode(written).hex()


def _plain(value: Any) -> Any:
    """MLflow keeps each value as JSON text."""
    with suppress(TypeError, ValueError):
        return json.loads(value)
    return value
