import assert from "node:assert/strict";
import { test } from "node:test";

import { History, parse, quantile, type Figure, type Samples } from "../src/figures";

const BUCKETS = "code_completion_duration_seconds_bucket";

function latencies(upTo: Record<string, number>): Samples {
  return new Map(
    Object.entries(upTo).map(([end, count]) => [`${BUCKETS}{le="${end}"}`, count]),
  );
}

function quantileOf(samples: Samples, share: number, from: Samples = new Map()) {
  return quantile("code_completion_duration_seconds", from, samples, share);
}

test("samples are read with their labels, comments are not", () => {
  const samples = parse('# HELP a b\na 1.5\nb{c="d e"} 2e3\n\n');
  assert.deepEqual(
    [...samples],
    [
      ["a", 1.5],
      ['b{c="d e"}', 2000],
    ],
  );
});

test("a quantile lies within its bucket, as far as its share goes", () => {
  const samples = latencies({ "0.1": 0, "0.2": 10, "+Inf": 10 });
  assert.ok(Math.abs((quantileOf(samples, 0.5) ?? 0) - 0.15) < 1e-9);
});

test("a quantile beyond all buckets is the last bucket's end", () => {
  assert.equal(quantileOf(latencies({ "5": 0, "+Inf": 4 }), 0.95), 5);
});

test("a quantile of nothing is undefined", () => {
  const samples = latencies({ "0.1": 3, "+Inf": 3 });
  assert.equal(quantileOf(samples, 0.5, samples), undefined);
});

test("a quantile counts what came between two looks alone", () => {
  const before = latencies({ "0.1": 100, "1": 100, "+Inf": 100 });
  const now = latencies({ "0.1": 100, "1": 110, "+Inf": 110 });
  assert.ok((quantileOf(now, 0.5, before) ?? 0) > 0.1);
});

function shown(history: History): Map<string, Figure> {
  return new Map(history.figures().map((figure) => [figure.name, figure]));
}

const of = (values: Record<string, number>): Samples => new Map(Object.entries(values));
const DONE = 'code_completion_requests_total{status="success"}';

test("figures are of the last while", () => {
  const history = new History(10_000);
  history.add(of({ [DONE]: 0 }), 0);
  history.add(of({ [DONE]: 1_000 }), 5_000);
  history.add(of({ [DONE]: 1_020 }), 15_000);
  assert.equal(shown(history).get("requests")?.value, 2);
});

test("a backend that was started anew begins anew", () => {
  const start = "process_start_time_seconds";
  const history = new History();
  history.add(of({ [DONE]: 500, [start]: 1 }), 0);
  history.add(of({ [DONE]: 0, [start]: 2 }), 1_000);
  assert.deepEqual(history.figures(), []);
  history.add(of({ [DONE]: 3, [start]: 2 }), 2_000);
  assert.equal(shown(history).get("requests")?.value, 3);
});

test("what was never counted is told as unknown, not as zero", () => {
  const history = new History();
  history.add(of({}), 0);
  history.add(of({ process_resident_memory_bytes: 80e6 }), 1_000);
  const figures = shown(history);
  assert.equal(figures.get("memory")?.value, 80);
  const engines = { tabwise_engine_resident_memory_bytes: 60e6 };
  history.add(of({ process_resident_memory_bytes: 80e6, ...engines }), 2_000);
  assert.equal(shown(history).get("memory")?.value, 140);
  assert.equal(figures.get("batch, requests a step")?.value, undefined);
  assert.equal(figures.get("latency, median")?.value, undefined);
});

test("answers from the cache are a share of all questions", () => {
  const found = (place: string) => `tabwise_response_cache_total{found="${place}"}`;
  const history = new History();
  history.add(of({ [found("memory")]: 0, [found("nowhere")]: 0 }), 0);
  history.add(of({ [found("memory")]: 1, [found("nowhere")]: 3 }), 1_000);
  assert.equal(shown(history).get("answers found in the cache")?.value, 25);
});
