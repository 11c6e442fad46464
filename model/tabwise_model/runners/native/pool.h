// Helper threads for one model: pieces of a phase are claimed, never assigned, so that
// the caller's thread finishes a phase alone when the helpers are asleep or preempted.
#pragma once

#include <stdint.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
 public:
  using Piece = void (*)(const void* context, int piece, int thread);

  explicit Pool(int helpers);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return 1 + int(helpers_.size()); }

  // Helpers take part in what is run between these two, and sleep otherwise.
  void begin_step();
  void end_step();

  // All pieces have been done, each once, by the caller (thread 0) or a helper.
  void run(int pieces, Piece piece, const void* context);

  int64_t helped() const { return helped_; }
  int64_t rests() const { return rests_; }

 private:
  using Clock = std::chrono::steady_clock;

  void help(int thread);
  void sleep_until_wanted();
  bool claim(bool from_below, int* piece);
  void await_helpers(int pieces);
  void settle(Clock::time_point now);
  void rest_helpers(Clock::time_point now);
  void release_helpers();
  void keep_helpers_off(int processor);
  void forgive(Clock::time_point now);

  // What this step has cost and brought since it was last settled.
  struct Step {
    Clock::time_point start;
    Clock::duration run_before;  // the caller's time on a processor, at the start
    Clock::duration waited;      // for helpers, beyond the usual
    int own_pieces, helpers_pieces;
  };

  // Written by the caller before a ticket is issued; a helper reads them only after a
  // successful claim, which keeps the phase, and so them, alive.
  Piece piece_ = nullptr;
  const void* context_ = nullptr;

  // phase (24 bits) | lowest unclaimed piece (20) | one past the highest (20). Counting
  // from both ends keeps a thread on the same weights from step to step.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_by_helpers_{0};
  alignas(64) std::atomic<bool> wanted_{false};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;

  // The caller's own.
  uint64_t phase_ = 0;
  bool helping_ = false;
  int kept_off_ = -1;  // the processor that helpers may not run on
  Step step_{};
  int64_t helped_ = 0;
  int64_t rests_ = 0;
  Clock::duration credit_;
  Clock::duration rest_;  // how long the next one takes
  Clock::time_point rest_until_{};
  Clock::time_point good_since_{};
};

// Calls body(piece, thread) for every piece.
template <class Body>
void run_pieces(Pool& pool, int pieces, const Body& body) {
  pool.run(
      pieces,
      [](const void* context, int piece, int thread) {
        (*static_cast<const Body*>(context))(piece, thread);
      },
      &body);
}
