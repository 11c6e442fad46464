// One step: a flat batch of token rows through all layers. Included by each path file.
#pragma once

#include "attention.h"
#include "int4.h"

namespace {

// Multiply-adds that are worth handing to another thread.
constexpr int64_t A_PIECE = 400'000;
// Reading a weight costs about as much as this many rows' products with it.
constexpr int READING = 4;

class Step {
 public:
  Step(TabwiseModel& model, const Batch& batch)
      : model_(model), shape_(model.shape), scratch_(model.scratch), batch_(batch) {}

  void run() {
    each_row(batch_.rows, [this](int row) { embed(row); });
    for (int i = 0; i < shape_.layers; ++i) {
      const Layer& layer = model_.layers[i];
      quantize_normed(layer.attention_norm, layer.qkv);
      product(layer.qkv, scratch_.wide, layer.qkv.outputs, false);
      each_row_by_thread(batch_.rows,
                         [&](int row, int thread) { place(i, row, thread); });
      attend_all(i);
      each_row(batch_.rows, [&](int row) { quantize_mixed(row, layer.attention_out); });
      product(layer.attention_out, scratch_.x, shape_.width, true);
      quantize_normed(layer.mlp_norm, layer.gate_up);
      product(layer.gate_up, scratch_.wide, layer.gate_up.outputs, false);
      each_row(batch_.rows, [&](int row) { quantize_gated(row, layer.down); });
      product(layer.down, scratch_.x, shape_.width, true);
    }
    head();
  }

 private:
  template <class Body>
  void each_row(int rows, const Body& body) {
    each_row_by_thread(rows, [&](int row, int) { body(row); });
  }

  template <class Body>
  void each_row_by_thread(int rows, const Body& body) {
    constexpr int TOGETHER = 4;
    const int pieces = (rows + TOGETHER - 1) / TOGETHER;
    run_pieces(model_.pool, pieces, [&](int piece, int thread) {
      const int first = piece * TOGETHER;
      const int last = first + TOGETHER < rows ? first + TOGETHER : rows;
      for (int row = first; row < last; ++row) body(row, thread);
    });
  }

  float* x(int row) const { return scratch_.x + size_t(row) * shape_.width; }
  QuantizedRow inputs(int row, int width) const {
    return {scratch_.inputs + size_t(row) * width, scratch_.scales + row};
  }
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
    each_row(batch_.rows, [&](int row) { quantize_normed_row(row, row, weight, next); });
  }

  // scratch.wide is free between two matrices: a normed row goes there.
  void quantize_normed_row(int row, int to, const float* weight, const Matrix& next) {
    normalize(x(row), weight, shape_, scratch_.wide + size_t(to) * shape_.width,
              inputs(to, shape_.width));
    sum_inputs(to, next);
  }

  void quantize_mixed(int row, const Matrix& next) {
    const int width = q_width();
    quantize(scratch_.mixed + size_t(row) * width, width, inputs(row, width));
    sum_inputs(row, next);
  }

  void quantize_gated(int row, const Matrix& next) {
    float* gate = scratch_.wide + size_t(row) * 2 * shape_.hidden;
    silu_times(gate, gate + shape_.hidden, shape_.hidden);
    quantize(gate, shape_.hidden, inputs(row, shape_.hidden));
    sum_inputs(row, next);
  }

  // What an INT4 matrix needs to know of a row besides its inputs.
  void sum_inputs(int row, const Matrix& next) {
    if (next.group)
      sum_groups(scratch_.inputs + size_t(row) * next.inputs, next.inputs, next.group,
                 scratch_.group_sums + size_t(row) * next.groups());
  }

  void product(const Matrix& matrix, float* to, size_t stride, bool add) {
    product(matrix, batch_.rows, to, stride, add);
  }

  void product(const Matrix& matrix, int rows, float* to, size_t stride, bool add) {
    const Rows a = {scratch_.inputs, size_t(matrix.inputs), rows, matrix.inputs,
                    scratch_.group_sums};
    const Scaled result = {scratch_.scales, matrix.scales, to, stride, add};
    const int64_t panel = int64_t(4 * BLOCK) * matrix.inputs * (rows + READING);
    const int blocks = 4 * int((A_PIECE + panel - 1) / panel);
    const int pieces = (matrix.blocks() + blocks - 1) / blocks;
    run_pieces(model_.pool, pieces, [&](int piece, int) {
      const int first = piece * blocks;
      const int last =
          first + blocks < matrix.blocks() ? first + blocks : matrix.blocks();
      if (matrix.group)
        multiply_int4(matrix, first, last, a, result);
      else
        multiply(matrix, first, last, a, result);
    });
  }

  // Rotates a row's queries and keys, and puts its keys and values into its slot.
  void place(int layer, int row, int thread) {
    float* q = scratch_.wide + size_t(row) * model_.layers[layer].qkv.outputs;
    float* k = q + q_width();
    const float* v = k + shape_.kv_heads * shape_.head_stride;
    const int position = batch_.positions[row], half = shape_.head_size / 2;
    const float* angles = model_.rope + size_t(position) * shape_.head_size;
    for (int h = 0; h < shape_.heads; ++h)
      rotate(q + h * shape_.head_stride, angles, half);
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const int at = h * shape_.head_stride;
      rotate(k + at, angles, half);
      remember(shape_, model_.cache(batch_.slots[row], layer, h), position, k + at,
               v + at, model_.attended[thread].queries);
    }
  }

  void attend_all(int layer) {
    const int pieces = batch_.rows * shape_.kv_heads;
    run_pieces(model_.pool, pieces, [&](int piece, int thread) {
      attend_row(layer, piece / shape_.kv_heads, piece % shape_.kv_heads, thread);
    });
  }

  void attend_row(int layer, int row, int kv_head, int thread) {
    const int group = shape_.heads / shape_.kv_heads;
    const size_t at = size_t(kv_head) * group * shape_.head_stride;
    const size_t q_row = size_t(row) * model_.layers[layer].qkv.outputs;
    attend(shape_, model_.cache(batch_.slots[row], layer, kv_head),
           model_.attended[thread], scratch_.wide + q_row + at,
           scratch_.mixed + size_t(row) * q_width() + at, group,
           batch_.positions[row] + 1);
  }

  void head() {
    each_row(batch_.wanted, [this](int i) {
      quantize_normed_row(batch_.wanted_rows[i], i, model_.norm, model_.embed);
    });
    product(model_.embed, batch_.wanted, batch_.logits, shape_.vocab, false);
  }

  TabwiseModel& model_;
  const TabwiseShape& shape_;
  const Scratch& scratch_;
  const Batch& batch_;
};

}  // namespace
