// Products with INT4 matrices: the very integers that INT8 ones of the same weights give.
//
// A group's nibbles are multiplied as they are. Its sums begin with NIBBLE_OFFSET times
// its inputs' sum taken away, and the step is multiplied after.
//
// PAIRWISE paths add up a group in another way than their INT8 products, and define
//   Group            the sums of one group, for the outputs of one vector
//   int32_t start_of_group(const int8_t* inputs, int count)    what fills each lane first
//   Group dot_group(Group sums, Input inputs, Ints nibbles)
//   Ints add_group(Ints sums, Group group, Ints steps)
#pragma once

#include "linear.h"

namespace {

typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

// Most rows of a tile: each needs twice the registers that it needs for INT8.
constexpr int INT4_TILE_ROWS = 4;

struct Nibbles {
  Ints low, high;
};

inline Nibbles unpack(const int8_t* from) {
  const Words packed = load<Words>(from);
  const Words mask = Words{} + 0x0F0F0F0Fu;
  return {(Ints)(packed & mask), (Ints)(packed >> 4 & mask)};
}

// The steps of one group, for the outputs of one vector of a block.
inline Ints load_steps(const Matrix& w, int block, int group, int part) {
  const size_t at = size_t(block) * w.steps_a_row() + group / 4 * 4;
  const Words four = load<Words>(w.steps + at * BLOCK + part * 4 * LANES);
  return (Ints)(four >> group % 4 * 8 & 0xFFu);
}

// One weight of an INT4 matrix, without its scale.
inline int int4_weight(const Matrix& w, int output, int input) {
  const size_t block = output / BLOCK, lane = output % BLOCK;
  const size_t at =
      (block * (w.inputs / 2) + input / 8 * 4) * BLOCK + lane * 4 + input % 4;
  const int nibble = uint8_t(w.weights[at]) >> input / 4 % 2 * 4 & 15;
  const int group = input / w.group;
  const size_t step = (block * w.steps_a_row() + group / 4 * 4) * BLOCK + lane * 4;
  return (nibble - NIBBLE_OFFSET) * w.steps[step + group % 4];
}

#ifndef PAIRWISE
using Group = Ints;

inline int32_t start_of_group(const int8_t* inputs, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; ++i)
    sum += INPUT_OFFSET ? int(uint8_t(inputs[i])) : int(inputs[i]);
  return -NIBBLE_OFFSET * sum;
}

inline Group dot_group(Group sums, Input inputs, Ints nibbles) {
  return dot(sums, inputs, nibbles);
}

inline Ints add_group(Ints sums, Group group, Ints steps) { return sums + group * steps; }
#endif

// ROWS rows by COUNT blocks of 16 outputs, over all inputs, in registers.
template <int ROWS, int COUNT>
inline void multiply_int4_tile(const Matrix& w, int block, const Rows& a, int row,
                               const Scaled& result) {
  constexpr int VECTORS = COUNT * PARTS;
  const size_t a_block = size_t(w.inputs) / 2 * BLOCK;
  const int groups = w.groups();
  const int8_t* weights = w.weights + block * a_block;
  const int8_t* inputs = a.inputs + row * a.stride;
  const int32_t* starts = a.group_starts + size_t(row) * groups;
  Ints sums[ROWS][VECTORS] = {};
  if (INPUT_OFFSET)
    for (int v = 0; v < VECTORS; ++v)
      for (int m = 0; m < ROWS; ++m)
        sums[m][v] = load<Ints>(w.corrections + block * BLOCK + v * LANES);
  for (int g = 0; g < groups; ++g) {
    Group part[ROWS][VECTORS];
    for (int m = 0; m < ROWS; ++m)
      for (int v = 0; v < VECTORS; ++v)
        part[m][v] = (Group)(Ints{} + starts[m * groups + g]);
    for (int k = g * w.group; k < (g + 1) * w.group; k += 8) {
      Nibbles some[VECTORS];
      if (ROWS == 1 && AHEAD)
        __builtin_prefetch(weights + size_t(k) / 2 * BLOCK + AHEAD);
      for (int v = 0; v < VECTORS; ++v)
        some[v] = unpack(weights + v / PARTS * a_block + size_t(k) / 2 * BLOCK +
                         v % PARTS * 4 * LANES);
      for (int m = 0; m < ROWS; ++m) {
        const Input first = spread(inputs + m * a.stride + k);
        const Input second = spread(inputs + m * a.stride + k + 4);
        for (int v = 0; v < VECTORS; ++v) {
          part[m][v] = dot_group(part[m][v], first, some[v].low);
          part[m][v] = dot_group(part[m][v], second, some[v].high);
        }
      }
    }
    for (int v = 0; v < VECTORS; ++v) {
      const Ints step = load_steps(w, block + v / PARTS, g, v % PARTS);
      for (int m = 0; m < ROWS; ++m)
        sums[m][v] = add_group(sums[m][v], part[m][v], step);
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int v = 0; v < VECTORS; ++v)
      result.take(row + m, block * BLOCK + v * LANES, sums[m][v]);
}

// Blocks first..last of all rows.
inline void multiply_int4(const Matrix& w, int first, int last, const Rows& a,
                          const Scaled& result) {
  each_tile<INT4_TILE_ROWS>(
      a.first, a.last, first, last, [&](auto rows, int row, int block, int end) {
        constexpr int ROWS = decltype(rows)::value;
        constexpr int COUNT = ROWS == 1 && AHEAD ? 1 : tile_blocks(2 * ROWS);
        for (; block + COUNT <= end; block += COUNT)
          multiply_int4_tile<ROWS, COUNT>(w, block, a, row, result);
        for (; block < end; ++block)
          multiply_int4_tile<ROWS, 1>(w, block, a, row, result);
      });
}

}  // namespace
