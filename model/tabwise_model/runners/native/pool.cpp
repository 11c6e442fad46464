#include "pool.h"

#include <time.h>
#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#include <algorithm>

#include <system_error>

using namespace std::chrono_literals;

namespace {

constexpr int FIELD = 20;
constexpr uint64_t FIELD_MASK = (uint64_t(1) << FIELD) - 1;

// How long a helper looks for more before it sleeps: longer than the pause between the
// phases of a step, about as long as waking it costs.
constexpr auto HELPER_SPIN = 50us;
constexpr int SPINS_BETWEEN_CLOCKS = 32;

// On a busy machine one thread alone is faster: a helper that is preempted with a piece
// in hand holds up its caller, and one on its caller's core takes the time from it. What
// helpers do earns them credit, the time that the caller waits or does not run is taken
// from it, and without credit they rest, longer each time.
constexpr auto FIRST_CREDIT = 150us;
constexpr auto MOST_CREDIT = 3ms;
constexpr auto FIRST_REST = 20ms;
constexpr auto LONGEST_REST = 1280ms;

// How long the calling thread has run.
std::chrono::nanoseconds time_run() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// The processor that the calling thread runs on; -1 where that is not known.
int own_processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int helpers) : credit_(FIRST_CREDIT), rest_(FIRST_REST) {
  try {
    for (int i = 0; i < helpers; ++i)
      helpers_.emplace_back([this, i] { help(i + 1); });
  } catch (const std::system_error&) {
    // The system grants no more threads: those we have will do.
  }
}

Pool::~Pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void Pool::begin_step() {
  const Clock::time_point now = Clock::now();
  helping_ = !helpers_.empty() && now >= rest_until_;
  if (!helping_) return;
  ++helped_;
  step_ = {now, time_run(), {}, 0, 0};
  forgive(now);
  if (const int own = own_processor(); own != kept_off_) keep_helpers_off(own);
  wanted_ = true;
  if (sleepers_ == 0) return;  // both sequentially consistent: see sleep_until_wanted
  { const std::lock_guard<std::mutex> lock(mutex_); }
  wake_.notify_all();
}

// A system that packs threads on few processors would have a helper wait for its
// caller's processor through whole steps, until the caller is done.
void Pool::keep_helpers_off(int processor) {
  kept_off_ = processor;
#if defined(__linux__)
  cpu_set_t allowed;
  if (processor < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  CPU_CLR(processor, &allowed);
  if (CPU_COUNT(&allowed) == 0) return;
  for (std::thread& helper : helpers_)
    pthread_setaffinity_np(helper.native_handle(), sizeof allowed, &allowed);
#endif
}

// As long without a rest as the last one took halves the next.
void Pool::forgive(Clock::time_point now) {
  if (now - good_since_ < rest_) return;
  good_since_ = now;
  rest_ = std::max<Clock::duration>(rest_ / 2, FIRST_REST);
}

void Pool::end_step() {
  if (!helping_) return;
  const Clock::time_point now = Clock::now();
  settle(now);
  if (credit_ < Clock::duration::zero()) rest_helpers(now);
  release_helpers();
}

// Credit for what the step's account holds, which then begins anew.
void Pool::settle(Clock::time_point now) {
  const Clock::duration run = time_run();
  const Clock::duration all = now - step_.start, ran = run - step_.run_before;
  const Clock::duration worked = std::min(ran, all - step_.waited);
  credit_ += worked * step_.helpers_pieces / std::max(step_.own_pieces, 1);
  credit_ -= step_.waited + std::max(all - ran - step_.waited, Clock::duration::zero());
  credit_ = std::min<Clock::duration>(credit_, MOST_CREDIT);
  step_ = {now, run, {}, 0, 0};
}

void Pool::run(int pieces, Piece piece, const void* context) {
  if (!helping_ || pieces < 2) {
    for (int i = 0; i < pieces; ++i) piece(context, i, 0);
    return;
  }
  piece_ = piece;
  context_ = context;
  done_by_helpers_.store(0, std::memory_order_relaxed);
  ++phase_;
  ticket_.store(phase_ << 2 * FIELD | uint64_t(pieces), std::memory_order_release);
  int own = 0;
  for (int i; claim(true, &i); ++own) piece(context, i, 0);
  step_.own_pieces += own;
  step_.helpers_pieces += pieces - own;
  if (own < pieces) await_helpers(pieces - own);
}

void Pool::await_helpers(int pieces) {
  const auto done = [&] {
    return done_by_helpers_.load(std::memory_order_acquire) == pieces;
  };
  for (int i = 0; i < 1000; ++i) {
    if (done()) return;
    pause();
  }
  const Clock::time_point start = Clock::now();
  while (!done()) std::this_thread::yield();  // it may wait for this very core
  const Clock::time_point now = Clock::now();
  step_.waited += now - start;
  if (step_.waited <= credit_) return;
  settle(now);  // a long step has earned some on its way
  if (credit_ < Clock::duration::zero()) rest_helpers(now);
}

void Pool::rest_helpers(Clock::time_point now) {
  release_helpers();
  ++rests_;
  credit_ = FIRST_CREDIT;
  rest_until_ = good_since_ = now + rest_;
  rest_ = std::min<Clock::duration>(rest_ * 2, LONGEST_REST);
}

void Pool::release_helpers() {
  helping_ = false;
  wanted_ = false;
}

// A claim succeeds only on the ticket it has read, phase included, and the phase cannot
// end before the claimed piece is done.
bool Pool::claim(bool from_below, int* piece) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  for (;;) {
    const int low = int(ticket >> FIELD & FIELD_MASK);
    const int high = int(ticket & FIELD_MASK);
    if (low >= high) return false;
    const uint64_t next = from_below ? ticket + (FIELD_MASK + 1) : ticket - 1;
    if (!ticket_.compare_exchange_weak(ticket, next, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
      continue;
    *piece = from_below ? low : high - 1;
    return true;
  }
}

void Pool::help(int thread) {
  Clock::time_point last = Clock::now();
  for (int spins = 0; !stopping_;) {
    int piece;
    if (claim(false, &piece)) {
      piece_(context_, piece, thread);
      done_by_helpers_.fetch_add(1, std::memory_order_release);
      spins = 0;
      continue;
    }
    pause();
    if (++spins == 1) last = Clock::now();
    if (spins % SPINS_BETWEEN_CLOCKS || Clock::now() - last < HELPER_SPIN) continue;
    if (wanted_)
      std::this_thread::yield();
    else
      sleep_until_wanted();
    spins = 0;
  }
}

// The caller sets wanted_ and then looks for sleepers; a helper counts itself and then
// looks at wanted_. One of the two sees the other.
void Pool::sleep_until_wanted() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++sleepers_;
  wake_.wait(lock, [this] { return wanted_ || stopping_; });
  --sleepers_;
}
