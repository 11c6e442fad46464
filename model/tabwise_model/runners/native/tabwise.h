// What the library exports. C only, so that ctypes can call it; no exception leaves it
// and nothing is global: everything hangs on the model handle.
#pragma once

#include <stdint.h>

#define TABWISE_API extern "C" __attribute__((visibility("default")))

// Sizes are those of the arrays handed over: all but layers, counts of heads, slots and
// channels are multiples of 16, padded with zeros.
struct TabwiseShape {
  int32_t layers;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_size;    // without padding
  int32_t head_stride;  // with it
  int32_t channels;     // without padding: what the norms' means divide by
  int32_t width;        // with it
  int32_t hidden;
  int32_t vocab;
  int32_t slots;
  int32_t slot_tokens;
  int32_t group;        // of the layers' matrices, if they are INT4; 0: INT8
  int32_t embed_group;  // of the embedding, likewise
  float norm_eps;
};

// Which array is loaded. The first five are matrices (outputs, inputs), rows contiguous;
// the others float32.
enum TabwiseTensor {
  TABWISE_QKV = 0,             // heads of q, then k, then v
  TABWISE_ATTENTION_OUT = 1,
  TABWISE_GATE_UP = 2,         // all of gate, then all of up
  TABWISE_DOWN = 3,
  TABWISE_EMBED = 4,           // layer 0
  TABWISE_ATTENTION_NORM = 5,  // (width)
  TABWISE_MLP_NORM = 6,        // (width)
  TABWISE_NORM = 7,            // (width); layer 0
  TABWISE_ROPE = 8,            // (slot_tokens, 2, head_size / 2): cos, sin; layer 0
};

struct TabwiseModel;

// Digest of the sources that this library was built from, as the build gave it.
TABWISE_API const char* tabwise_built_from();

// Writes the names of the paths that this processor can run, best first, a blank after
// each. Returns their length, or -1 if `size` is too small.
TABWISE_API int tabwise_paths(char* names, int size);

// A model without weights, or null if the path is unknown or memory is short.
TABWISE_API TabwiseModel* tabwise_create(const TabwiseShape* shape, const char* path,
                                         int threads);
TABWISE_API void tabwise_destroy(TabwiseModel* model);

// Copies one array in: an INT8 matrix with a scale an output, or floats without scales.
// Returns 0, or -1 if there is no such tensor or layer.
TABWISE_API int tabwise_load(TabwiseModel* model, int layer, int tensor,
                             const void* data, const float* scales);

// As `tabwise_load`, of an INT4 matrix. nibbles: (outputs, inputs / 2), the weight of an
// even input in the low four bits, plus 8. steps: (outputs, inputs / group), 0..15.
TABWISE_API int tabwise_load_int4(TabwiseModel* model, int layer, int tensor,
                                  const uint8_t* nibbles, const uint8_t* steps,
                                  const float* scales);

// Appends one token a row to the slots. Rows of one slot follow each other in order of
// position. logits: (wanted, vocab), after each row named in wanted_rows (ascending).
// The caller has checked every index.
TABWISE_API void tabwise_step(TabwiseModel* model, int rows, const int32_t* tokens,
                              const int32_t* slots, const int32_t* positions,
                              int wanted, const int32_t* wanted_rows, float* logits);

// The first `tokens` tokens of slot `target` become those of `source`; the first `start`
// of them are already.
TABWISE_API void tabwise_copy_slot(TabwiseModel* model, int source, int target,
                                   int tokens, int start);

// The first `tokens` tokens of a slot become those of the same slot of another model of
// the same shape, in a slot that nothing writes to.
TABWISE_API void tabwise_adopt_slot(TabwiseModel* model, const TabwiseModel* other,
                                    int slot, int tokens);

// Steps since creation that began with helpers, and how often these went to rest because
// they cost more than they did.
TABWISE_API void tabwise_counters(const TabwiseModel* model, int64_t* helped,
                                  int64_t* rests);

// What follows each occurrence of the context's last token in a text, but for gaps, and
// how many tokens before that agree with the context's end, up to `longest`. after,
// agreed: (length). Returns how many there are.
TABWISE_API int tabwise_occurrences(const int32_t* text, int length,
                                    const int32_t* context, int context_length,
                                    int longest, int gap, int32_t* after,
                                    int32_t* agreed);

// The same of a text whose places, where a token follows, are given in the order of the
// tokens that end there, read backwards; before each stand context_length tokens or gaps.
// At most `most` of them, those that agree longest first; none from skipped_from up to
// skipped_to. after, agreed: (most).
TABWISE_API int tabwise_nearest(const int32_t* text, const int32_t* order, int count,
                                int skipped_from, int skipped_to, const int32_t* context,
                                int context_length, int most, int32_t* after,
                                int32_t* agreed);

// How many tokens agree at the longest, up to `longest`, behind each of the context's last
// `last` tokens in such a text. agreed: (last).
TABWISE_API void tabwise_agreements(const int32_t* text, const int32_t* order, int count,
                                    int skipped_from, int skipped_to,
                                    const int32_t* context, int context_length,
                                    int longest, int last, int32_t* agreed);

// What a search asks of one row of logits. Null pointers stand for what there is not.
struct TabwiseRow {
  const float* logits;     // (vocab)
  const int32_t* context;  // (context_length), the newest last
  const int32_t* text;     // (text_length): as for `tabwise_occurrences`
  const int32_t* held;     // with order (held_count): as for `tabwise_nearest`
  const int32_t* order;
  const int64_t* ends;     // (ends_count): tokens that count together
  const int64_t* allowed;  // (allowed_count): all others have no probability
  int32_t context_length;
  int32_t text_length;
  int32_t held_count;
  int32_t skipped_from;
  int32_t skipped_to;
  int32_t ends_count;
  int32_t allowed_count;
  float trust;  // in what is held
  float least;  // probability that is asked for
};

// See `Gate` of copy_gates.py.
struct TabwiseGate {
  const float* hidden;  // (size, features)
  const float* bias;    // (size)
  const float* out;     // (size)
  float last;
  int32_t size;
  int32_t features;
};

// How earlier text weighs; see copying.py and copy_gates.py, whose constants these are.
struct TabwiseCopying {
  TabwiseGate text;
  TabwiseGate held;
  int32_t longest;
  int32_t most;  // occurrences in what is held
  int32_t gap;
  float least_share;
  double short_prior;
  double long_prior;
};

constexpr int TABWISE_MOST_CHOSEN = 16;

// The answer: what all ends have together, and the `found` likeliest of the other tokens
// that have more than `least`, the likeliest first. found is -1 if the logits are not
// finite.
struct TabwiseChosen {
  float ends;
  int32_t found;
  int32_t ids[TABWISE_MOST_CHOSEN];
  float shares[TABWISE_MOST_CHOSEN];
};

// Softmax of each row with what may be copied mixed in, and of that at most `width`
// tokens. path: by name, the best if it is empty. Returns 0, -1 if memory is short, -2 if
// there is no such path.
TABWISE_API int tabwise_choose(const char* path, const TabwiseRow* rows, int count,
                               int vocab, int width, const TabwiseCopying* copying,
                               TabwiseChosen* chosen);
