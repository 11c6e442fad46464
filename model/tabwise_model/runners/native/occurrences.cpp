// Where a text says what the context says. numpy takes several passes over the whole text.
#include "tabwise.h"

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
