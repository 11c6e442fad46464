#include "paths.h"

#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace {

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

bool has_avx2() { return __builtin_cpu_supports("avx2"); }

// CPUID leaf 7, subleaf 1, EAX bit 4: compilers do not all know its name yet.
bool has_avxvnni() {
  unsigned a = 7, b, c = 1, d;
  if (!has_avx2()) return false;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return a >> 4 & 1;
}
#elif defined(__aarch64__)
bool has_dot_product() {
#if defined(__APPLE__)
  return true;
#elif defined(__linux__)
  constexpr unsigned long ASIMD_DOT_PRODUCT = 1ul << 20;
  return getauxval(AT_HWCAP) & ASIMD_DOT_PRODUCT;
#else
  return false;
#endif
}
#endif

}  // namespace

const Path PATHS[] = {
#if defined(__x86_64__)
    {"avx512vnni", has_avx512vnni, step_avx512vnni, softmax_avx512vnni},
    {"avxvnni", has_avxvnni, step_avxvnni, softmax_avxvnni},
    {"avx2", has_avx2, step_avx2, softmax_avx2},
#elif defined(__aarch64__)
    {"neondot", has_dot_product, step_neondot, softmax_neondot},
    {"neon", always, step_neon, softmax_neon},
#endif
    {"plain", always, step_plain, softmax_plain},
};

const int PATH_COUNT = sizeof PATHS / sizeof PATHS[0];

const Path* find_path(const char* name) {
  for (int i = 0; i < PATH_COUNT; ++i)
    if ((*name == 0 || strcmp(name, PATHS[i].name) == 0) && PATHS[i].usable())
      return PATHS + i;
  return nullptr;
}
