// The instruction sets that the step is compiled for.
#pragma once

#include "model.h"

#if defined(__x86_64__)
void step_avx512vnni(TabwiseModel& model, const Batch& batch);
void step_avxvnni(TabwiseModel& model, const Batch& batch);
void step_avx2(TabwiseModel& model, const Batch& batch);
#elif defined(__aarch64__)
void step_neondot(TabwiseModel& model, const Batch& batch);
void step_neon(TabwiseModel& model, const Batch& batch);
#endif
void step_plain(TabwiseModel& model, const Batch& batch);

struct Path {
  const char* name;
  bool (*usable)();
  StepFunction step;
};

// All compiled paths, the best first; ends with the plain one, usable everywhere.
extern const Path PATHS[];
extern const int PATH_COUNT;
