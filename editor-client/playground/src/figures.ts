/** What /metrics says, as the figures a person looks at. */

export type Samples = ReadonlyMap<string, number>;

/** A figure of now, and how it went: undefined where there is nothing to say. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly value: number | undefined;
  readonly course: readonly number[];
}

const LATENCY = "code_completion_duration_seconds";
const BATCH = "tabwise_engine_batch_size";
const MEGABYTE = 1e6;

/** Prometheus' text form; a sample's name is with its labels. */
export function parse(text: string): Samples {
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([^#\s].*) (\S+)$/.exec(line);
    if (match?.[1] !== undefined) samples.set(match[1], Number(match[2]));
  }
  return samples;
}

interface Look {
  readonly at: number;
  readonly samples: Samples;
}

type Value = (from: Look, to: Look) => number | undefined;

/** Name, unit, and the value of the time between two looks. */
const FIGURES: readonly (readonly [string, string, Value])[] = [
  ["requests", "/s", (a, b) => perSecond(a, b, gain(a, b, requestsOf))],
  ["latency, median", "ms", (a, b) => latency(a, b, 0.5)],
  ["latency, 95th percentile", "ms", (a, b) => latency(a, b, 0.95)],
  ["tokens", "/s", (a, b) => perSecond(a, b, gained(a, b, "tokens_generated_total"))],
  [
    "batch, requests a step",
    "",
    (a, b) => ratio(gained(a, b, `${BATCH}_sum`), gained(a, b, `${BATCH}_count`)),
  ],
  ["prompt found in the cache", "%", (a, b) => percent(prefixHits(a, b))],
  ["answers found in the cache", "%", (a, b) => percent(answerHits(a, b))],
  ["memory", "MB", (_, b) => megabytes(resident(b.samples))],
];

/** The looks of the last while. Figures are of that while; their courses have a value
 * for each look. */
export class History {
  private looks: Look[] = [];

  constructor(
    private readonly spanMs = 60_000,
    private readonly shown = 60,
  ) {}

  add(samples: Samples, at: number): void {
    const [last] = this.looks.slice(-1);
    if (last !== undefined && restarted(last.samples, samples)) this.looks = [];
    this.looks.push({ at, samples });
    this.looks = this.looks.filter((look) => look.at >= at - this.spanMs);
  }

  figures(): Figure[] {
    const [first, last] = [this.looks[0], this.looks.at(-1)];
    if (first === undefined || last === undefined || first === last) return [];
    return FIGURES.map(([name, unit, value]) => ({
      name,
      unit,
      value: value(first, last),
      course: this.course(value),
    }));
  }

  private course(value: Value): number[] {
    return this.looks
      .slice(1)
      .map((look, n) => value(this.looks[n] ?? look, look) ?? 0)
      .slice(-this.shown);
  }
}

/** Between two looks, the value below which `share` of a histogram's observations lie;
 * within a bucket they count as spread evenly. Undefined without any. */
export function quantile(
  name: string,
  from: Samples,
  to: Samples,
  share: number,
): number | undefined {
  let [below, count] = [0, 0];
  const buckets = bucketsOf(name, from, to);
  const wanted = share * (buckets.at(-1)?.[1] ?? 0);
  for (const [end, upTo] of buckets) {
    if (upTo > 0 && upTo >= wanted) {
      if (end === Infinity) return below;
      return below + ((end - below) * (wanted - count)) / Math.max(upTo - count, 1);
    }
    [below, count] = [end, upTo];
  }
  return undefined;
}

function bucketsOf(name: string, from: Samples, to: Samples): [number, number][] {
  const found: [number, number][] = [];
  for (const [key, count] of to) {
    const match = /^(\w+)_bucket\{le="([^"]+)"\}$/.exec(key);
    if (match?.[1] !== name) continue;
    const end = match[2] === "+Inf" ? Infinity : Number(match[2]);
    found.push([end, count - (from.get(key) ?? 0)]);
  }
  return found.sort(([a], [b]) => a - b);
}

function restarted(before: Samples, now: Samples): boolean {
  const name = "process_start_time_seconds";
  return before.get(name) !== now.get(name);
}

function gained(from: Look, to: Look, name: string): number {
  return gain(from, to, (samples) => samples.get(name) ?? 0);
}

function gain(from: Look, to: Look, value: (samples: Samples) => number): number {
  return value(to.samples) - value(from.samples);
}

function requestsOf(samples: Samples): number {
  return samples.get('code_completion_requests_total{status="success"}') ?? 0;
}

function latency(from: Look, to: Look, share: number): number | undefined {
  const seconds = quantile(LATENCY, from.samples, to.samples, share);
  return seconds === undefined ? undefined : seconds * 1000;
}

function prefixHits(from: Look, to: Look): number | undefined {
  return ratio(
    gained(from, to, "tabwise_engine_cached_tokens_total"),
    gained(from, to, "tabwise_engine_prompt_tokens_total"),
  );
}

function answerHits(from: Look, to: Look): number | undefined {
  let [hits, all] = [0, 0];
  for (const name of to.samples.keys()) {
    const place = /^tabwise_response_cache_total\{found="(\w+)"\}$/.exec(name)?.[1];
    if (place === undefined) continue;
    all += gained(from, to, name);
    if (place !== "nowhere") hits += gained(from, to, name);
  }
  return ratio(hits, all);
}

function ratio(part: number, whole: number): number | undefined {
  return whole > 0 ? part / whole : undefined;
}

function percent(share: number | undefined): number | undefined {
  return share === undefined ? undefined : 100 * share;
}

function perSecond(from: Look, to: Look, count: number): number | undefined {
  return ratio(count * 1000, to.at - from.at);
}

/** The server's own, and its engines' processes'. */
function resident(samples: Samples): number | undefined {
  const own = samples.get("process_resident_memory_bytes");
  const engines = samples.get("tabwise_engine_resident_memory_bytes") ?? 0;
  return own === undefined ? undefined : own + engines;
}

function megabytes(bytes: number | undefined): number | undefined {
  return bytes === undefined ? undefined : bytes / MEGABYTE;
}
