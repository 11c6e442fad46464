// From logits to the few likeliest tokens, and where a text says what the context says.
// Small work, but numpy's dozen calls for it each give Python's lock away, and where
// other threads are busy each waits long to have it back. Called with the lock held.
#include <float.h>
#include <math.h>

#include "tabwise.h"

#define LANES 4
#include "vectors.h"

namespace {

// The largest, and whether all are numbers; minus infinity is one.
float largest_of(const float* logits, int count, bool* numbers) {
  Floats top = Floats{} - INFINITY;
  Ints strange = {};
  int i = 0;
  for (; i + LANES <= count; i += LANES) {
    const Floats x = load<Floats>(logits + i);
    top = larger(x, top);
    strange |= x != x;
  }
  float largest = -INFINITY;
  bool any = false;
  for (int lane = 0; lane < LANES; ++lane) {
    largest = top[lane] > largest ? top[lane] : largest;
    any |= strange[lane] != 0;
  }
  for (; i < count; ++i) {
    largest = logits[i] > largest ? logits[i] : largest;
    any |= logits[i] != logits[i];
  }
  *numbers = !any && isfinite(largest);
  return largest;
}

// e^(logit - largest) of each; returns their sum.
float soften(const float* logits, int count, float largest, float* weights) {
  Floats sums = {};
  int i = 0;
  for (; i + LANES <= count; i += LANES) {
    const Floats weight = exponential(load<Floats>(logits + i) - largest);
    store(weights + i, weight);
    sums += weight;
  }
  float sum = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  for (; i < count; ++i) {
    weights[i] = exponential(Floats{} + (logits[i] - largest))[0];
    sum += weights[i];
  }
  return sum;
}

// The `most` highest so far, the highest first; of equals, the first that came.
struct Best {
  int most;
  int32_t* ids;
  float* values;
  int found = 0;

  // below FLT_MIN lies what `exponential` makes of minus infinity
  float least() const { return found < most ? FLT_MIN : values[most - 1]; }

  void offer(int32_t id, float value) {
    if (!(value > least())) return;
    int at = found < most ? found++ : most - 1;
    for (; at > 0 && values[at - 1] < value; --at) {
      ids[at] = ids[at - 1];
      values[at] = values[at - 1];
    }
    ids[at] = id;
    values[at] = value;
  }
};

}  // namespace

int tabwise_likeliest(const float* logits, int count, const TabwiseCopied* copied,
                      const int32_t* marked, int marked_count, int inside, int most,
                      float* scratch, int32_t* ids, float* values, float* share) {
  bool numbers;
  const float largest = largest_of(logits, count, &numbers);
  if (!numbers) return -1;
  const float scale = (1.0f - copied->weight) / soften(logits, count, largest, scratch);
  for (int i = 0; i < count; ++i) scratch[i] *= scale;
  for (int i = 0; i < copied->count; ++i)
    if (uint32_t(copied->ids[i]) < uint32_t(count))
      scratch[copied->ids[i]] += copied->shares[i] * copied->weight;
  *share = 0.0f;
  for (int i = 0; i < marked_count; ++i) *share += scratch[marked[i]];
  Best best = {most, ids, values};
  if (inside) {
    for (int i = 0; i < marked_count; ++i) best.offer(marked[i], scratch[marked[i]]);
    return best.found;
  }
  for (int i = 0; i < marked_count; ++i) scratch[marked[i]] = 0.0f;
  for (int i = 0; i < count; ++i)
    if (scratch[i] > best.least()) best.offer(i, scratch[i]);
  return best.found;
}

int tabwise_occurrences(const int32_t* text, int length, const int32_t* context,
                        int context_length, int longest, int gap, int32_t* after,
                        int32_t* agreed) {
  int found = 0;
  const int32_t newest = context[context_length - 1];
  const int most = longest < context_length ? longest : context_length;
  for (int at = 0; at + 1 < length; ++at) {
    if (text[at] != newest || text[at + 1] == gap) continue;
    int same = 1;
    while (same < most && same <= at &&
           text[at - same] == context[context_length - 1 - same])
      ++same;
    after[found] = text[at + 1];
    agreed[found++] = same;
  }
  return found;
}
