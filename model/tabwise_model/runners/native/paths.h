// The instruction sets that the step, and the choice of tokens, are compiled for.
#pragma once

#include "model.h"

// The largest of the values that a softmax is made of, NaN if one of them is, and the sum
// of e^(value - top).
struct Softmax {
  float top, sum;
};

#if defined(__x86_64__)
void step_avx512vnni(TabwiseModel& model, const Batch& batch);
Softmax softmax_avx512vnni(float* values, int count);
void step_avxvnni(TabwiseModel& model, const Batch& batch);
Softmax softmax_avxvnni(float* values, int count);
void step_avx2(TabwiseModel& model, const Batch& batch);
Softmax softmax_avx2(float* values, int count);
#elif defined(__aarch64__)
void step_neondot(TabwiseModel& model, const Batch& batch);
Softmax softmax_neondot(float* values, int count);
void step_neon(TabwiseModel& model, const Batch& batch);
Softmax softmax_neon(float* values, int count);
#endif
void step_plain(TabwiseModel& model, const Batch& batch);
Softmax softmax_plain(float* values, int count);

struct Path {
  const char* name;
  bool (*usable)();
  StepFunction step;
  Softmax (*softmax)(float* values, int count);  // see rows.h
};

// The usable path of this name, or the best if it is empty; null if there is none.
const Path* find_path(const char* name);

// All compiled paths, the best first; ends with the plain one, usable everywhere.
extern const Path PATHS[];
extern const int PATH_COUNT;
