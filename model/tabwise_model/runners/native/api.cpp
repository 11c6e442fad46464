#include <string.h>

#include <exception>
#include <memory>

#include "paths.h"

namespace {

// Rows [first, first + rows) of a batch, with those of its wanted rows among them.
Batch part_of(const Batch& whole, int first, int rows, int* wanted_rows, int* seen,
              size_t vocab) {
  Batch part = {rows,
                whole.tokens + first,
                whole.slots + first,
                whole.positions + first,
                0,
                wanted_rows,
                whole.logits + *seen * vocab};
  while (*seen < whole.wanted && whole.wanted_rows[*seen] < first + rows)
    wanted_rows[part.wanted++] = whole.wanted_rows[(*seen)++] - first;
  return part;
}

}  // namespace

const char* tabwise_built_from() { return TABWISE_BUILT_FROM; }

int tabwise_paths(char* names, int size) {
  int used = 0;
  for (int i = 0; i < PATH_COUNT; ++i) {
    if (!PATHS[i].usable()) continue;
    const int length = int(strlen(PATHS[i].name));
    if (used + length + 1 > size) return -1;
    memcpy(names + used, PATHS[i].name, length);
    names[used + length] = ' ';
    used += length + 1;
  }
  return used;
}

TabwiseModel* tabwise_create(const TabwiseShape* shape, const char* path, int threads) {
  const Path* found = find_path(path);
  if (found == nullptr) return nullptr;
  try {
    return new TabwiseModel(*shape, found->step, threads);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void tabwise_destroy(TabwiseModel* model) { delete model; }

int tabwise_load(TabwiseModel* model, int layer, int tensor, const void* data,
                 const float* scales) {
  if (layer < 0 || layer >= model->shape.layers) return -1;
  if (Matrix* matrix = model->matrix(layer, tensor)) {
    if (matrix->group) return -1;
    pack(*matrix, static_cast<const int8_t*>(data), scales);
    return 0;
  }
  size_t count;
  float* floats = model->floats(layer, tensor, &count);
  if (floats == nullptr) return -1;
  memcpy(floats, data, count * sizeof(float));
  return 0;
}

int tabwise_load_int4(TabwiseModel* model, int layer, int tensor,
                      const uint8_t* nibbles, const uint8_t* steps,
                      const float* scales) {
  if (layer < 0 || layer >= model->shape.layers) return -1;
  Matrix* matrix = model->matrix(layer, tensor);
  if (matrix == nullptr || matrix->group == 0) return -1;
  pack_int4(*matrix, nibbles, steps, scales);
  return 0;
}

void tabwise_step(TabwiseModel* model, int rows, const int32_t* tokens,
                  const int32_t* slots, const int32_t* positions, int wanted,
                  const int32_t* wanted_rows, float* logits) {
  const Batch whole = {rows, tokens, slots, positions, wanted, wanted_rows, logits};
  int in_part[STEP_ROWS], seen = 0;
  for (int first = 0; first < rows; first += STEP_ROWS) {
    const int count = rows - first < STEP_ROWS ? rows - first : STEP_ROWS;
    const size_t vocab = model->shape.vocab;
    model->pool.begin_step();
    model->step(*model, part_of(whole, first, count, in_part, &seen, vocab));
    model->pool.end_step();
  }
}

void tabwise_copy_slot(TabwiseModel* model, int source, int target, int tokens,
                       int start) {
  if (source != target) copy_slot(*model, source, *model, target, tokens, start);
}

void tabwise_adopt_slot(TabwiseModel* model, const TabwiseModel* other, int slot,
                        int tokens) {
  copy_slot(*other, slot, *model, slot, tokens, 0);
}

void tabwise_counters(const TabwiseModel* model, int64_t* helped, int64_t* rests) {
  *helped = model->pool.helped();
  *rests = model->pool.rests();
}
