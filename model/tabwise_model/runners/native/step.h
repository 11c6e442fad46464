// One step: a flat batch of token rows through all layers. Included by each path file.
#pragma once

#include "attention.h"
#include "int4.h"
#ifdef PAIRWISE
#include "pairs.h"
#endif

namespace {

// Multiply-adds that are worth handing to another thread, and about the most that it
// takes at once: some 100 us where there are only old instructions.
constexpr int64_t A_PIECE = 400'000;
constexpr int64_t A_LARGE_PIECE = 1'000'000;
// Rows for which it is worth reading a matrix once more.
constexpr int FEWEST_ROWS = 16;
// Reading a weight costs about as much as this many rows' products with it.
constexpr int READING = 4;

class Step {
 public:
  Step(TabwiseModel& model, const Batch& batch)
      : model_(model),
        shape_(model.shape),
        scratch_(model.scratch),
        batch_(batch),
        rows_(batch.rows) {}

  void run() {
    each_row([this](int row) { embed(row); });
    for (int i = 0; i < shape_.layers; ++i) {
      const Layer& layer = model_.layers[i];
      quantize_normed(layer.attention_norm, layer.qkv);
      if (i + 1 == shape_.layers && batch_.wanted < rows_) {
        place_all_then_keep_wanted(i);
        if (rows_ == 0) return;
      } else {
        product(layer.qkv, scratch_.wide, layer.qkv.outputs, false);
        each_row_by_thread([&](int row, int thread) {
          rotate_queries(i, row);
          place(i, row, thread);
        });
      }
      attend_all(i);
      each_row([&](int row) { quantize_mixed(row, layer.attention_out); });
      product(layer.attention_out, scratch_.x, shape_.width, true);
      quantize_normed(layer.mlp_norm, layer.gate_up);
      product(layer.gate_up, scratch_.wide, layer.gate_up.outputs, false);
      each_row([&](int row) { quantize_gated(row, layer.down); });
      product(layer.down, scratch_.x, shape_.width, true);
    }
    head();
  }

 private:
  template <class Body>
  void each_row(const Body& body) {
    each_row_by_thread([&](int row, int) { body(row); });
  }

  template <class Body>
  void each_row_by_thread(const Body& body) {
    constexpr int TOGETHER = 4;
    const int pieces = (rows_ + TOGETHER - 1) / TOGETHER;
    run_pieces(model_.pool, pieces, [&](int piece, int thread) {
      const int first = piece * TOGETHER;
      const int last = first + TOGETHER < rows_ ? first + TOGETHER : rows_;
      for (int row = first; row < last; ++row) body(row, thread);
    });
  }

  float* x(int row) const { return scratch_.x + size_t(row) * shape_.width; }
  QuantizedRow inputs(int row, int width) const {
    return {scratch_.inputs + size_t(row) * width, scratch_.scales + row};
  }
  int source(int row) const { return kept_ ? kept_[row] : row; }
  int q_width() const { return shape_.heads * shape_.head_stride; }

  // A token's row of the packed embedding.
  void embed(int row) {
    const Matrix& table = model_.embed;
    const int token = batch_.tokens[row];
    const int8_t* block =
        table.weights + size_t(token / BLOCK) * BLOCK * table.inputs + token % BLOCK * 4;
    const float scale = table.scales[token];
    for (int i = 0; i < shape_.width; ++i)
      x(row)[i] = scale * float(table.group ? int4_weight(table, token, i)
                                            : block[i / 4 * BLOCK * 4 + i % 4]);
  }

  void quantize_normed(const float* weight, const Matrix& next) {
    each_row([&](int row) {
      // scratch.wide is free between two matrices: a normed row goes there.
      normalize(x(row), weight, shape_, scratch_.wide + size_t(row) * shape_.width,
                inputs(row, shape_.width));
      prepare(row, next);
    });
  }

  void quantize_mixed(int row, const Matrix& next) {
    const int width = q_width();
    quantize(scratch_.mixed + size_t(row) * width, width, inputs(row, width));
    prepare(row, next);
  }

  void quantize_gated(int row, const Matrix& next) {
    float* gate = scratch_.wide + size_t(row) * 2 * shape_.hidden;
    silu_times(gate, gate + shape_.hidden, shape_.hidden);
    quantize(gate, shape_.hidden, inputs(row, shape_.hidden));
    prepare(row, next);
  }

#ifdef PAIRWISE
  PairedRow paired_row(int row, int width) const {
    const size_t at = size_t(row) * width;
    return {scratch_.magnitudes + at, scratch_.signs + at, scratch_.tops + at / 8,
            scratch_.negative + row};
  }
#endif

  // What the next matrix needs to know of a row besides its inputs.
  void prepare(int row, const Matrix& next) {
    const int8_t* inputs = scratch_.inputs + size_t(row) * next.inputs;
#ifdef PAIRWISE
    if (next.bounds) pair_up(inputs, next.inputs, paired_row(row, next.inputs));
#endif
    if (next.group == 0) return;
    int32_t* starts = scratch_.group_starts + size_t(row) * next.groups();
    for (int g = 0; g < next.groups(); ++g)
      starts[g] = start_of_group(inputs + g * next.group, next.group);
  }

  void product(const Matrix& matrix, float* to, size_t stride, bool add) {
    product(matrix, 0, matrix.blocks(), to, stride, add);
  }

  // Pieces are so many outputs of so many rows that no thread waits long for another.
  void product(const Matrix& matrix, int begin, int end, float* to, size_t stride,
               bool add) {
    const Scaled result = {scratch_.scales, matrix.scales, to, stride, add};
    const int64_t one_row = int64_t(4 * BLOCK) * matrix.inputs;
    const int64_t panel = one_row * (rows_ + READING);
    const int blocks = 4 * int((A_PIECE + panel - 1) / panel);
    const int across = (end - begin + blocks - 1) / blocks;
    const int affordable = int(A_LARGE_PIECE / one_row);
    const int high = affordable > FEWEST_ROWS ? affordable : FEWEST_ROWS;
    const int down = rows_ < high ? 1 : rows_ / high;
    run_pieces(model_.pool, across * down, [&](int piece, int) {
      const int first = begin + piece / down * blocks;
      const int last = first + blocks < end ? first + blocks : end;
      const int part = piece % down;
      const Rows a = {scratch_.inputs,
                      size_t(matrix.inputs),
                      rows_ * part / down,
                      rows_ * (part + 1) / down,
                      matrix.inputs,
                      scratch_.group_starts};
#ifdef PAIRWISE
      if (matrix.bounds)
        return multiply_paired(
            matrix, first, last,
            {paired_row(0, matrix.inputs), matrix.inputs, a.first, a.last}, result);
#endif
      if (matrix.group)
        multiply_int4(matrix, first, last, a, result);
      else
        multiply(matrix, first, last, a, result);
    });
  }

  float* queries(int layer, int row) const {
    return scratch_.wide + size_t(row) * model_.layers[layer].qkv.outputs;
  }
  const float* angles(int row) const {
    return model_.rope + size_t(batch_.positions[source(row)]) * shape_.head_size;
  }

  void rotate_queries(int layer, int row) {
    for (int h = 0; h < shape_.heads; ++h)
      rotate(queries(layer, row) + h * shape_.head_stride, angles(row),
             shape_.head_size / 2);
  }

  // Rotates a row's keys, and puts its keys and values into its slot.
  void place(int layer, int row, int thread) {
    float* k = queries(layer, row) + q_width();
    const float* v = k + shape_.kv_heads * shape_.head_stride;
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const int at = h * shape_.head_stride;
      rotate(k + at, angles(row), shape_.head_size / 2);
      remember(shape_, model_.cache(batch_.slots[row], layer, h), batch_.positions[row],
               k + at, v + at, model_.attended[thread].queries);
    }
  }

  // In the last layer rows of which no logits are wanted give their keys and values
  // alone: nothing reads what would become of them.
  void place_all_then_keep_wanted(int layer) {
    const Matrix& qkv = model_.layers[layer].qkv;
    const int q_blocks = q_width() / BLOCK;
    product(qkv, q_blocks, qkv.blocks(), scratch_.wide, qkv.outputs, false);
    each_row_by_thread([&](int row, int thread) { place(layer, row, thread); });
    kept_ = batch_.wanted_rows;
    rows_ = batch_.wanted;
    for (int row = 0; row < rows_; ++row)  // ascending: none is overwritten too early
      memmove(x(row), x(source(row)), shape_.width * sizeof(float));
    quantize_normed(model_.layers[layer].attention_norm, qkv);
    product(qkv, 0, q_blocks, scratch_.wide, qkv.outputs, false);
    each_row([&](int row) { rotate_queries(layer, row); });
  }

  void attend_all(int layer) {
    const int pieces = rows_ * shape_.kv_heads;
    run_pieces(model_.pool, pieces, [&](int piece, int thread) {
      attend_row(layer, piece / shape_.kv_heads, piece % shape_.kv_heads, thread);
    });
  }

  void attend_row(int layer, int row, int kv_head, int thread) {
    const int group = shape_.heads / shape_.kv_heads;
    const size_t at = size_t(kv_head) * group * shape_.head_stride;
    attend(shape_, model_.cache(batch_.slots[source(row)], layer, kv_head),
           model_.attended[thread], queries(layer, row) + at,
           scratch_.mixed + size_t(row) * q_width() + at, group,
           batch_.positions[source(row)] + 1);
  }

  // All rows that are left are wanted.
  void head() {
    quantize_normed(model_.norm, model_.embed);
    product(model_.embed, batch_.logits, shape_.vocab, false);
  }

  TabwiseModel& model_;
  const TabwiseShape& shape_;
  const Scratch& scratch_;
  const Batch& batch_;
  int rows_;                       // that are computed, and which of the batch they are:
  const int32_t* kept_ = nullptr;  // all, or these
};

}  // namespace
