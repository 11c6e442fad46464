/** What /metrics says, as the figures a person looks at. */

export type Samples = ReadonlyMap<string, number>;

/** Prometheus' text form; a sample's name is with its labels. */
export function parse(text: string): Samples {
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([^#\s][^\s]*) (\S+)$/.exec(line);
    if (match?.[1] !== undefined) samples.set(match[1], Number(match[2]));
  }
  return samples;
}

/** Labels and values of the time between two looks, `seconds` apart. */
export function figures(
  now: Samples,
  before: Samples,
  seconds: number,
): [string, string][] {
  const gained = (name: string): number =>
    (now.get(name) ?? 0) - (before.get(name) ?? 0);
  const share = (part: number, whole: number, unit: number): string =>
    whole > 0 ? ((unit * part) / whole).toFixed(1) : "–";
  const steps = gained("tabwise_engine_steps_total");
  const decoded = gained("tabwise_engine_decode_tokens_total");
  const prompt = now.get("tabwise_engine_prompt_tokens_total") ?? 0;
  const cached = now.get("tabwise_engine_cached_tokens_total") ?? 0;
  const asked = gained('code_completion_requests_total{status="success"}');
  const memory = now.get("process_resident_memory_bytes");
  return [
    ["requests/s", (asked / seconds).toFixed(1)],
    ["median, ms", percentile(now, 0.5)],
    ["95th percentile, ms", percentile(now, 0.95)],
    ["tokens/s", (gained("tokens_generated_total") / seconds).toFixed(0)],
    ["tokens a step", share(decoded, steps, 1)],
    ["prompt in cache, %", share(cached, prompt, 100)],
    ["memory, MB", memory === undefined ? "–" : (memory / 1e6).toFixed(0)],
  ];
}

/** The bucket's upper end, in milliseconds, since the backend started. */
function percentile(samples: Samples, share: number): string {
  const name = "code_completion_duration_seconds";
  const wanted = share * (samples.get(`${name}_count`) ?? 0);
  if (wanted === 0) return "–";
  for (const [key, count] of samples) {
    const bucket = /_duration_seconds_bucket\{le="([^"]+)"\}/.exec(key);
    if (bucket?.[1] !== undefined && key.startsWith(name) && count >= wanted) {
      return bucket[1] === "+Inf" ? "> 5000" : `≤ ${Number(bucket[1]) * 1000}`;
    }
  }
  return "–";
}
