// Where a text says what the context says. numpy takes several passes over the whole text.
#include <algorithm>

#include "tabwise.h"

namespace {

constexpr int TOGETHER = 64;  // tokens that are looked over at once

// How many of the `length` tokens that end in `context` agree with those that end at `at`.
int agreement(const int32_t* at, const int32_t* context, int length) {
  int same = 0;
  while (same < length && at[-same] == context[length - 1 - same]) ++same;
  return same;
}

}  // namespace

int tabwise_occurrences(const int32_t* text, int length, const int32_t* context,
                        int context_length, int longest, int gap, int32_t* after,
                        int32_t* agreed) {
  int found = 0;
  const int32_t newest = context[context_length - 1];
  const int most = std::min(longest, context_length);
  for (int first = 0; first + 1 < length; first += TOGETHER) {
    const int last = std::min(first + TOGETHER, length - 1);
    int any = 0;
    for (int at = first; at < last; ++at) any |= text[at] == newest;
    if (!any) continue;
    for (int at = first; at < last; ++at) {
      if (text[at] != newest || text[at + 1] == gap) continue;
      const int before = std::min(most, at + 1);
      after[found] = text[at + 1];
      agreed[found++] = agreement(text + at, context + context_length - before, before);
    }
  }
  return found;
}

void tabwise_agreements(const int32_t* text, const int32_t* order, int count,
                        int skipped_from, int skipped_to, const int32_t* context,
                        int context_length, int longest, int last, int32_t* agreed) {
  for (int i = 0; i < last; ++i) {
    const int seen = context_length - last + i + 1;
    const int length = std::min(seen, longest);
    int32_t ignored;
    if (!tabwise_nearest(text, order, count, skipped_from, skipped_to,
                         context + seen - length, length, 1, &ignored, agreed + i))
      agreed[i] = 0;
  }
}

int tabwise_nearest(const int32_t* text, const int32_t* order, int count,
                    int skipped_from, int skipped_to, const int32_t* context,
                    int context_length, int most, int32_t* after, int32_t* agreed) {
  const auto agrees = [=](int32_t place) {
    return agreement(text + place, context, context_length);
  };
  const auto skipped = [=](int32_t place) {
    return skipped_from <= place && place < skipped_to;
  };
  const auto is_before = [=](int32_t place, const int32_t*) {
    const int same = agrees(place);
    return same < context_length &&
           text[place - same] < context[context_length - 1 - same];
  };
  const int32_t* down = std::lower_bound(order, order + count, context, is_before);
  const int32_t* up = down;  // one behind the next
  const int32_t* const end = order + count;
  // How many agree at the next place that is not skipped; outwards they only get fewer.
  const auto below = [&] {
    for (; down < end; ++down) {
      const int same = agrees(*down);
      if (!same || !skipped(*down)) return same;
    }
    return 0;
  };
  const auto above = [&] {
    for (; up > order; --up) {
      const int same = agrees(up[-1]);
      if (!same || !skipped(up[-1])) return same;
    }
    return 0;
  };
  int lower = below(), upper = above(), found = 0;
  while (found < most && (lower || upper)) {
    const int32_t* place;
    if (lower >= upper) {
      agreed[found] = lower;
      place = down++;
      lower = below();
    } else {
      agreed[found] = upper;
      place = --up;
      upper = above();
    }
    after[found++] = text[*place + 1];
  }
  return found;
}
