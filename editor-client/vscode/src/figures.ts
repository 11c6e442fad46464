/** What this window saw of its suggestions; nothing of it leaves the window. */

const KEPT = 200;

export class Figures {
  asked = 0;
  answered = 0;
  private readonly latencies: number[] = [];

  /** Count one request that was answered, with or without a suggestion. */
  observe(latencyMs: number, suggestions: number): void {
    this.asked += 1;
    if (suggestions === 0) return;
    this.answered += 1;
    this.latencies.push(latencyMs);
    if (this.latencies.length > KEPT) this.latencies.shift();
  }

  /** Milliseconds from request to suggestion, of the last ones; undefined for none. */
  percentile(share: number): number | undefined {
    const sorted = [...this.latencies].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }

  describe(): string {
    if (this.answered === 0) return `${this.asked} requests, no suggestion yet`;
    const median = Math.round(this.percentile(0.5) ?? 0);
    const late = Math.round(this.percentile(0.95) ?? 0);
    return (
      `${this.answered} suggestions in ${this.asked} requests; ` +
      `median ${median} ms, 95th percentile ${late} ms`
    );
  }
}
