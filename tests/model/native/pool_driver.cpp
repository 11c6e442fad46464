// Tries the pool of helper threads by itself; exit status 0 if all holds.
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

using namespace std::chrono_literals;

namespace {

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      fprintf(stderr, "line %d: %s does not hold\n", __LINE__, #condition); \
      return false;                                                       \
    }                                                                     \
  } while (0)

// Every piece of every phase is done once, with pauses in which helpers fall asleep.
bool each_piece_is_done_once(int helpers, int steps) {
  Pool pool(helpers);
  unsigned random = 1;
  for (int step = 0; step < steps; ++step) {
    pool.begin_step();
    for (int phase = 0; phase < 3; ++phase) {
      random = random * 1664525u + 1013904223u;
      std::vector<int> done(1 + (random >> 8) % 12);  // plain ints: a race would show
      run_pieces(pool, int(done.size()), [&](int piece, int) { ++done[piece]; });
      for (int times : done) CHECK(times == 1);
    }
    pool.end_step();
    if (step % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random >> 24));
  }
  return true;
}

// Runs phases until a helper has taken part and slept in its piece.
bool stall(Pool& pool) {
  std::atomic<bool> slept{false};
  for (int step = 0; step < 10000 && !slept; ++step) {
    pool.begin_step();
    run_pieces(pool, 8, [&](int, int thread) {
      if (thread > 0 && !slept.exchange(true)) std::this_thread::sleep_for(20ms);
      if (thread == 0 && !slept) std::this_thread::sleep_for(100us);
    });
    pool.end_step();
  }
  return slept;
}

bool a_stalled_helper_rests(int attempts) {
  Pool pool(1);
  CHECK(stall(pool));
  CHECK(pool.rests() >= 1);
  if (pool.rests() > 1)  // others took a processor: it has rested before, and longer
    return attempts == 1 || a_stalled_helper_rests(attempts - 1);
  const int64_t helped = pool.helped();
  pool.begin_step();
  bool alone = true;
  run_pieces(pool, 100, [&](int, int thread) { alone = alone && thread == 0; });
  pool.end_step();
  CHECK(alone);
  CHECK(pool.helped() == helped);
  std::this_thread::sleep_for(60ms);  // the first rest takes 20 ms
  pool.begin_step();
  pool.end_step();
  CHECK(pool.helped() == helped + 1);
  return true;
}

// In a long step the helper's last pieces are waited for a little each time, more in all
// than credit holds; what it does meanwhile is worth far more.
bool a_useful_helper_does_not_rest() {
  const auto spin = [](std::chrono::microseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {}
  };
  for (int attempt = 0; attempt < 20; ++attempt) {
    Pool pool(1);
    bool disturbed = false;  // by others, who took a processor
    pool.begin_step();
    for (int phase = 0; phase < 50; ++phase) {
      const auto start = std::chrono::steady_clock::now();
      run_pieces(pool, 2, [&](int, int thread) { spin(thread > 0 ? 600us : 400us); });
      disturbed = disturbed || std::chrono::steady_clock::now() - start > 1ms;
    }
    pool.end_step();
    if (disturbed) continue;
    CHECK(pool.rests() == 0);
    return true;
  }
  return true;
}

bool no_helper_means_no_thread() {
  Pool pool(0);
  CHECK(pool.threads() == 1);
  std::thread::id seen;
  pool.begin_step();
  run_pieces(pool, 5, [&](int, int) { seen = std::this_thread::get_id(); });
  pool.end_step();
  CHECK(seen == std::this_thread::get_id());
  CHECK(pool.helped() == 0);
  return true;
}

#if defined(__linux__)
// Wherever its caller goes, a helper runs on another processor, if there is one.
bool a_helper_keeps_off_its_callers_processor() {
  cpu_set_t allowed;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  if (CPU_COUNT(&allowed) < 2) return true;
  Pool pool(1);
  int seen = 0;
  for (int step = 0; step < 200; ++step) {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int at = step, to = 0; at >= 0; to = (to + 1) % CPU_SETSIZE)
      if (CPU_ISSET(to, &allowed) && at-- == 0) CPU_SET(to, &one);
    sched_setaffinity(0, sizeof one, &one);
    sched_setaffinity(0, sizeof allowed, &allowed);
    const int own = sched_getcpu();
    std::atomic<int> helpers{-1};
    pool.begin_step();
    run_pieces(pool, 40, [&](int, int thread) {
      if (thread > 0) helpers = sched_getcpu();
      const auto until = std::chrono::steady_clock::now() + 25us;
      while (std::chrono::steady_clock::now() < until) {}
    });
    pool.end_step();
    if (sched_getcpu() != own || helpers < 0) continue;
    CHECK(helpers != own);
    ++seen;
  }
  CHECK(seen > 0);
  return true;
}
#else
bool a_helper_keeps_off_its_callers_processor() { return true; }
#endif

}  // namespace

int main(int count, char** arguments) {
  const int steps = count > 1 ? atoi(arguments[1]) : 20000;
  const bool good = each_piece_is_done_once(1, steps) &&
                    each_piece_is_done_once(3, steps) && a_stalled_helper_rests(20) &&
                    a_useful_helper_does_not_rest() &&
                    a_helper_keeps_off_its_callers_processor() &&
                    no_helper_means_no_thread();
  return good ? 0 : 1;
}
