// Which tokens a search goes on with. In numpy each row takes a dozen calls, between which
// Python's lock is fought for.
#include <math.h>
#include <string.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "paths.h"

namespace {

constexpr int TOGETHER = 64;  // shares that are looked over at once

// Shares of the tokens of one row, and room for the occurrences of its copies.
struct Room {
  std::vector<float> shares;  // padded to whole blocks
  std::vector<float> copied;  // of each token by one copy; 0 between two
  std::vector<int32_t> tokens;  // that it gives a share
  std::vector<int32_t> after, agreed;
  std::vector<double> given;

  void hold(int occurrences) {
    if (after.size() >= size_t(occurrences)) return;
    after.resize(occurrences);
    agreed.resize(occurrences);
  }
};

// What the model itself says, whatever is mixed in.
struct Model {
  const float* logits;
  Softmax whole;

  float probability(int id) const { return expf(logits[id] - whole.top) / whole.sum; }
  float surest() const { return 1 / whole.sum; }
};

// Fills room.copied and room.tokens by so many occurrences; returns the longest agreement and how many agree
// so long. See `_shares` of copying.py.
std::pair<int, int> weigh(Room& room, int occurrences, const TabwiseCopying& copying) {
  std::vector<double>& given = room.given;
  std::fill(given.begin(), given.end(), 0.0);
  std::vector<int> counts(given.size());
  int longest = 0;
  for (int i = 0; i < occurrences; ++i) {
    ++counts[room.agreed[i]];
    longest = std::max(longest, room.agreed[i]);
  }
  double left = 1, reached = 0;
  for (int length = longest; length > 0; --length) {
    if (!counts[length]) continue;
    reached += counts[length];
    const double prior = length > 2 ? copying.long_prior : copying.short_prior;
    given[length] = left / (reached + prior);
    left *= prior / (reached + prior);
  }
  const double whole = 1 - left;
  double sum = 0;
  for (int length = 0; length <= longest; ++length) {
    sum += given[length];
    given[length] = sum / whole;
  }
  room.tokens.clear();
  for (int i = 0; i < occurrences; ++i) {
    float& share = room.copied[room.after[i]];
    if (share == 0) room.tokens.push_back(room.after[i]);
    share += float(given[room.agreed[i]]);
  }
  return {longest, counts[longest]};
}

int likeliest_copied(const Room& room) {
  int best = room.tokens[0];
  for (const int id : room.tokens) {
    const float share = room.copied[id], most = room.copied[best];
    if (share > most || (share == most && id < best)) best = id;
  }
  return best;
}

float log_odds(float share, float least) {
  share = std::min(std::max(share, least), 1 - least);
  return logf(share / (1 - share));
}

// See `Gate.weight` of copy_gates.py.
float gate_weight(const TabwiseGate& gate, const float* features) {
  float sum = gate.last;
  for (int row = 0; row < gate.size; ++row) {
    float within = gate.bias[row];
    for (int i = 0; i < gate.features; ++i)
      within += gate.hidden[row * gate.features + i] * features[i];
    sum += gate.out[row] * tanhf(within);
  }
  return 1 / (1 + expf(-sum));
}

// As `mix` of copying.py, of one copy, whose occurrences stand in the room. A text at
// hand is trusted as it is, by 1.
void mix(Room& room, int vocab, int occurrences, const Model& model,
         const TabwiseGate& gate, float trust, const TabwiseCopying& copying) {
  const auto [longest, agreeing] = weigh(room, occurrences, copying);
  const int likeliest = likeliest_copied(room);
  const float least = copying.least_share;
  const float features[] = {longest / 8.0f,
                            log1pf(float(agreeing)) / 4,
                            log_odds(room.copied[likeliest], least) / 4,
                            log_odds(model.probability(likeliest), least) / 4,
                            log_odds(model.surest(), least) / 4,
                            trust};
  const float weight = gate_weight(gate, features) * std::min(trust, 1.0f);
  float* shares = room.shares.data();
  for (int i = 0; i < vocab; ++i) shares[i] *= 1 - weight;
  for (const int id : room.tokens) {
    shares[id] += room.copied[id] * weight;
    room.copied[id] = 0;
  }
}

void mix_copies(const TabwiseRow& row, int vocab, const TabwiseCopying& copying,
                const Model& model, Room& room) {
  if (row.context_length == 0) return;
  if (row.held != nullptr && row.trust > 0) {
    room.hold(copying.most);
    const int found = tabwise_nearest(
        row.held, row.order, row.held_count, row.skipped_from, row.skipped_to, row.context,
        row.context_length, copying.most, room.after.data(), room.agreed.data());
    if (found) mix(room, vocab, found, model, copying.held, row.trust, copying);
  }
  if (row.text != nullptr) {
    room.hold(row.text_length);
    const int found = tabwise_occurrences(
        row.text, row.text_length, row.context, row.context_length, copying.longest,
        copying.gap, room.after.data(), room.agreed.data());
    if (found) mix(room, vocab, found, model, copying.text, 1, copying);
  }
}

// Puts a token among those found, of equals behind those that came before it.
void insert(TabwiseChosen& chosen, int width, int id, float share) {
  int place = chosen.found;
  while (place > 0 && chosen.shares[place - 1] < share) --place;
  if (place == width) return;
  chosen.found = std::min(chosen.found + 1, width);
  for (int i = chosen.found - 1; i > place; --i) {
    chosen.ids[i] = chosen.ids[i - 1];
    chosen.shares[i] = chosen.shares[i - 1];
  }
  chosen.ids[place] = id;
  chosen.shares[place] = share;
}

void choose_among_all(const float* shares, int vocab, float least, int width,
                      TabwiseChosen& chosen) {
  for (int first = 0; first < vocab; first += TOGETHER) {
    const int last = std::min(first + TOGETHER, vocab);
    int any = 0;  // several are compared at once, as the largest would not be
    for (int i = first; i < last; ++i) any |= shares[i] > least;
    if (!any) continue;
    for (int i = first; i < last; ++i)
      if (shares[i] > least) insert(chosen, width, i, shares[i]);
  }
}

void choose_among_allowed(const float* shares, const TabwiseRow& row, int width,
                          TabwiseChosen& chosen) {
  float sum = 0;
  for (int i = 0; i < row.allowed_count; ++i) sum += shares[row.allowed[i]];
  for (int i = 0; i < row.allowed_count; ++i) {
    const float share = shares[row.allowed[i]] / sum;
    if (share > row.least) insert(chosen, width, int(row.allowed[i]), share);
  }
}

void choose(const Path& path, const TabwiseRow& row, int vocab, int width,
            const TabwiseCopying& copying, Room& room, TabwiseChosen& chosen) {
  chosen.ends = 0;
  chosen.found = 0;
  float* shares = room.shares.data();
  memcpy(shares, row.logits, vocab * sizeof(float));
  std::fill(shares + vocab, shares + room.shares.size(), -INFINITY);
  const Softmax whole = path.softmax(shares, int(room.shares.size()));
  if (!isfinite(whole.top)) {
    chosen.found = -1;
    return;
  }
  mix_copies(row, vocab, copying, {row.logits, whole}, room);
  if (row.allowed != nullptr) {
    choose_among_allowed(shares, row, width, chosen);
    return;
  }
  for (int i = 0; i < row.ends_count; ++i) {
    chosen.ends += shares[row.ends[i]];
    shares[row.ends[i]] = 0;
  }
  choose_among_all(shares, vocab, row.least, width, chosen);
}

}  // namespace

int tabwise_choose(const char* path, const TabwiseRow* rows, int count, int vocab,
                   int width, const TabwiseCopying* copying, TabwiseChosen* chosen) {
  static const Path* const best = find_path("");
  const Path* used = *path == 0 ? best : find_path(path);
  if (used == nullptr) return -2;
  try {
    Room room;
    room.shares.resize((vocab + BLOCK - 1) / BLOCK * BLOCK);
    room.copied.resize(vocab);
    room.given.resize(copying->longest + 1);
    for (int i = 0; i < count; ++i)
      choose(*used, rows[i], vocab, width, *copying, room, chosen[i]);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}
