// Runs a small random model on every path that this processor has, through the C
// interface alone, and prints a hash of all logits for each: `NAME THREADS HASH HASH`,
// of an INT8 model and of an INT4 one, which must also be that of its weights as INT8.
// The hashes must agree between paths, thread counts, and processors.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "tabwise.h"

namespace {

constexpr int LAYERS = 2, HEADS = 8, KV_HEADS = 1, HEAD = 24, HEAD_STRIDE = 32;
constexpr int CHANNELS = HEADS * HEAD, WIDTH = 192, HIDDEN = 224, VOCAB = 272;
constexpr int A_GROUP = 32;
constexpr int SLOTS = 3, SLOT_TOKENS = 160, Q_WIDTH = HEADS * HEAD_STRIDE;
static_assert(CHANNELS == WIDTH, "no padding of channels here");

struct Random {
  uint64_t state = 1;
  int next(int below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return int((state >> 33) % below);
  }
  float around(float middle) { return middle + float(next(2001) - 1000) * 1e-4f; }
};

enum Kind { INT8, INT4, INT4_AS_INT8 };

void load_int4(TabwiseModel* model, Random& random, Kind kind, int layer, int tensor,
               int outputs, int inputs, const std::vector<float>& scales) {
  const int groups = inputs / A_GROUP;
  std::vector<uint8_t> nibbles(size_t(outputs) * inputs / 2);
  std::vector<uint8_t> steps(size_t(outputs) * groups);
  std::vector<int8_t> weights(size_t(outputs) * inputs);
  for (uint8_t& step : steps) step = uint8_t(random.next(16));
  for (size_t i = 0; i < weights.size(); ++i) {
    const int nibble = random.next(16);
    nibbles[i / 2] = uint8_t(nibbles[i / 2] | nibble << i % 2 * 4);
    weights[i] = int8_t((nibble - 8) * steps[i / A_GROUP]);
  }
  if (kind == INT4)
    tabwise_load_int4(model, layer, tensor, nibbles.data(), steps.data(),
                      scales.data());
  else
    tabwise_load(model, layer, tensor, weights.data(), scales.data());
}

void load_matrix(TabwiseModel* model, Random& random, Kind kind, int layer, int tensor,
                 int outputs, int inputs) {
  std::vector<float> scales(outputs);
  for (float& scale : scales) scale = float(1 + random.next(100)) * 2e-5f;
  if (kind != INT8) {
    load_int4(model, random, kind, layer, tensor, outputs, inputs, scales);
    return;
  }
  std::vector<int8_t> weights(size_t(outputs) * inputs);
  for (int8_t& weight : weights) weight = int8_t(random.next(255) - 127);
  tabwise_load(model, layer, tensor, weights.data(), scales.data());
}

void load_floats(TabwiseModel* model, Random& random, int layer, int tensor, int count,
                 float middle) {
  std::vector<float> values(count);
  for (float& value : values) value = random.around(middle);
  tabwise_load(model, layer, tensor, values.data(), nullptr);
}

TabwiseModel* make(const char* path, int threads, Kind kind) {
  const int group = kind == INT4 ? A_GROUP : 0;
  const TabwiseShape shape = {LAYERS,   HEADS, KV_HEADS, HEAD,  HEAD_STRIDE,
                              CHANNELS, WIDTH, HIDDEN,   VOCAB, SLOTS,
                              SLOT_TOKENS, group, group, 1e-5f};
  TabwiseModel* model = tabwise_create(&shape, path, threads);
  if (model == nullptr) return nullptr;
  Random random;
  for (int i = 0; i < LAYERS; ++i) {
    const int qkv = Q_WIDTH + 2 * KV_HEADS * HEAD_STRIDE;
    load_matrix(model, random, kind, i, TABWISE_QKV, qkv, WIDTH);
    load_matrix(model, random, kind, i, TABWISE_ATTENTION_OUT, WIDTH, Q_WIDTH);
    load_matrix(model, random, kind, i, TABWISE_GATE_UP, 2 * HIDDEN, WIDTH);
    load_matrix(model, random, kind, i, TABWISE_DOWN, WIDTH, HIDDEN);
    load_floats(model, random, i, TABWISE_ATTENTION_NORM, WIDTH, 1.0f);
    load_floats(model, random, i, TABWISE_MLP_NORM, WIDTH, 1.0f);
  }
  load_matrix(model, random, kind, 0, TABWISE_EMBED, VOCAB, WIDTH);
  load_floats(model, random, 0, TABWISE_NORM, WIDTH, 1.0f);
  load_floats(model, random, 0, TABWISE_ROPE, SLOT_TOKENS * HEAD, 0.5f);
  return model;
}

struct Hash {
  uint64_t value = 14695981039346656037u;
  void add(const std::vector<float>& floats) {
    for (float number : floats) {
      uint32_t bits;
      memcpy(&bits, &number, sizeof bits);
      value = (value ^ bits) * 1099511628211u;
    }
  }
};

// Appends `count` tokens to a slot; all logits of the batch go into the hash.
void extend(TabwiseModel* model, Hash& hash, int slot, int start, int count) {
  std::vector<int32_t> tokens, slots(count, slot), positions, wanted;
  for (int i = 0; i < count; ++i) {
    tokens.push_back((7 * (start + i) + 31 * slot) % VOCAB);
    positions.push_back(start + i);
    wanted.push_back(i);
  }
  std::vector<float> logits(size_t(count) * VOCAB);
  tabwise_step(model, count, tokens.data(), slots.data(), positions.data(), count,
               wanted.data(), logits.data());
  hash.add(logits);
}

unsigned long long run(const char* path, int threads, Kind kind) {
  TabwiseModel* model = make(path, threads, kind);
  if (model == nullptr) exit(1);
  Hash hash;
  extend(model, hash, 0, 0, 150);  // more rows than go together
  for (int i = 0; i < 5; ++i) extend(model, hash, 0, 150 + i, 1);
  tabwise_copy_slot(model, 0, 2, 37, 0);
  extend(model, hash, 2, 37, 6);
  extend(model, hash, 1, 0, 5);
  tabwise_destroy(model);
  return hash.value;
}

}  // namespace

int main() {
  char names[256];
  const int length = tabwise_paths(names, sizeof names - 1);
  if (length < 0) return 1;
  names[length] = 0;
  for (char* name = strtok(names, " "); name; name = strtok(nullptr, " "))
    for (int threads = 1; threads <= 3; ++threads) {
      const auto int4 = run(name, threads, INT4);
      if (int4 != run(name, threads, INT4_AS_INT8)) return 1;
      printf("%s %d %016llx %016llx\n", name, threads, run(name, threads, INT8), int4);
    }
  return 0;
}
