// The instruction sets that the step, and the choice of tokens, are compiled for.
#pragma once

#include "model.h"

#if defined(__x86_64__)
void step_avx512vnni(TabwiseModel& model, const Batch& batch);
float exponentials_avx512vnni(float* values, int count, float top);
void step_avxvnni(TabwiseModel& model, const Batch& batch);
float exponentials_avxvnni(float* values, int count, float top);
void step_avx2(TabwiseModel& model, const Batch& batch);
float exponentials_avx2(float* values, int count, float top);
#elif defined(__aarch64__)
void step_neondot(TabwiseModel& model, const Batch& batch);
float exponentials_neondot(float* values, int count, float top);
void step_neon(TabwiseModel& model, const Batch& batch);
float exponentials_neon(float* values, int count, float top);
#endif
void step_plain(TabwiseModel& model, const Batch& batch);
float exponentials_plain(float* values, int count, float top);

struct Path {
  const char* name;
  bool (*usable)();
  StepFunction step;
  float (*exponentials)(float* values, int count, float top);  // see rows.h
};

// The usable path of this name, or the best if it is empty; null if there is none.
const Path* find_path(const char* name);

// All compiled paths, the best first; ends with the plain one, usable everywhere.
extern const Path PATHS[];
extern const int PATH_COUNT;
