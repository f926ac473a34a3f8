// The operators of this library. They have the names and attributes of ONNX Runtime's own and replace those in a
// session, so a bundle's graph runs with or without them.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "layers/activation.h"
#include "attention/attention.h"
#include "dense/linear_node.h"
#include "sampling/draws.h"
#include "layers/norm.h"
#include "base/ort.h"
#include "experts/experts_node.h"
#include "products/products.h"
#include "layers/recurrence_nodes.h"
#include "sampling/sampling.h"

namespace infrs {
namespace {

// Stored: the type of the keys and values in the memory of past and present. The graph declares that memory as float32;
// with Half, twice as many positions fit into it, and with Byte nearly four times as many.
template <typename Stored>
class GroupQueryAttention {
 public:
  static constexpr const char* name = "GroupQueryAttention";
  static constexpr const char* attributes =
      "num_heads kv_num_heads do_rotary rotary_interleaved scale softcap local_window_size smooth_softmax qk_output "
      "causal sliding_window_cache k_quant_type v_quant_type kv_cache_bit_width qk_norm_epsilon q_norm_epsilon "
      "k_norm_epsilon";
  // Query, key, value, past key and value, lengths, longest length, cosines, sines. Then positions, bias, sinks, scales
  // of key and value, norms of query and key, lengths of the queries, of which only the sinks are supported.
  static constexpr int inputs[] = {kFloat,  -kFloat, -kFloat, -kFloat, -kFloat, kInt32,  kInt32,  -kFloat, -kFloat,
                                   -kInt64, -kFloat, -kFloat, -kFloat, -kFloat, -kFloat, -kFloat, -kInt32};
  static constexpr size_t kSupportedInputs = 9, kSinks = 11;
  static constexpr int outputs[] = {kFloat, -kFloat, -kFloat, -kFloat};

  GroupQueryAttention(const NodeInfo& node, Choice choice) : rotates_(flag(node, "do_rotary")) {
    for (size_t index = kSupportedInputs; index < std::size(inputs); ++index)
      support(index == kSinks || !node.has_input(index), "GroupQueryAttention: only sinks after the rotary tables");
    support(node.has_input(3) && node.has_input(4) && node.has_output(1) && node.has_output(2),
            "GroupQueryAttention: only with past and present keys and values");
    const int64_t heads = node.integer("num_heads", 0), kv_heads = node.integer("kv_num_heads", 0);
    require(0 < kv_heads && kv_heads <= heads && heads <= kMaxHeads && heads % kv_heads == 0,
            "GroupQueryAttention: num_heads or kv_num_heads is impossible");
    shape_.num_heads = heads;
    shape_.num_kv_heads = kv_heads;
    const int64_t head_dim = node.dimension(3, 3);
    support(head_dim % 8 == 0 && 0 < head_dim && head_dim <= int64_t{kMaxHeadDim},
            "GroupQueryAttention: head_dim is not a multiple of 8 up to 512, or not known");
    shape_.head_dim = head_dim;
    const float scale = node.number("scale", 0.0f);
    shape_.scale = scale == 0 ? 1 / std::sqrt(static_cast<float>(shape_.head_dim)) : scale;
    shape_.softcap = node.number("softcap", 0.0f);
    require(std::isfinite(scale) && std::isfinite(shape_.softcap) && shape_.softcap >= 0,
            "GroupQueryAttention: scale or softcap is impossible");
    const int64_t window = node.integer("local_window_size", -1);
    require(window >= -1, "GroupQueryAttention: local_window_size is impossible");
    shape_.window = std::max<int64_t>(0, window);
    shape_.interleaved = flag(node, "rotary_interleaved");
    shape_.loops = choice.avx512 ? attention_loops_avx512<Stored>() : attention_loops_avx2<Stored>();
    shape_.wide_loops = choice.avx512 ? attention_loops_avx512<float>() : attention_loops_avx2<float>();
    support(node.integer("smooth_softmax", -1) <= 0 && !node.integer("qk_output", 0) && !node.has_output(3),
            "GroupQueryAttention: only the plain softmax, and no output of scores");
    support(node.integer("causal", 1) == 1 && !node.integer("sliding_window_cache", 0),
            "GroupQueryAttention: only causal attention, and no sliding cache");
    support(node.text("k_quant_type", "NONE") == "NONE" && node.text("v_quant_type", "NONE") == "NONE" &&
                !node.integer("kv_cache_bit_width", 0),
            "GroupQueryAttention: no quantized keys and values");
    for (const char* epsilon : {"qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"})  // of inputs refused above
      require(std::isfinite(node.number(epsilon, 0.0f)), "GroupQueryAttention: the epsilon of a norm is impossible");
  }

  void compute(const Run& run) const {
    const auto query = run.input<float>(0), key = run.input<float>(1), value = run.input<float>(2);
    const auto past_key = run.input<float>(3), past_value = run.input<float>(4);
    const auto lengths = run.input<int32_t>(5);
    const auto cos = run.input<float>(7), sin = run.input<float>(8), sinks = run.input<float>(kSinks);
    require(query.shape.size() == 3 && past_key.shape.size() == 4, "GroupQueryAttention: inputs of another rank");

    using Shape = std::vector<int64_t>;
    const int64_t dim = shape_.head_dim, kv_heads = shape_.num_kv_heads;
    const int64_t rows = query.shape[0], tokens = query.shape[1], slots = past_key.shape[2];
    int64_t capacity = product(slots, dim * sizeof(float)) / static_cast<int64_t>(position_bytes<Stored>(dim));
    if (kHasScales<Stored>) capacity -= capacity % int64_t{kKeyLanes};  // the caller has rounded the slots up
    const int64_t width = shape_.num_heads * dim, key_width = kv_heads * dim;
    const Shape past_shape{rows, kv_heads, slots, dim}, key_shape{rows, tokens, key_width};
    require(past_key.shape == past_shape && past_value.shape == past_shape && elements(lengths.shape) == rows &&
                query.shape[2] == (key.data ? width : width + 2 * key_width) &&
                (!key.data || (key.shape == key_shape && value.shape == key_shape)),
            "GroupQueryAttention: shapes that do not agree");
    require(capacity % 8 == 0 && capacity <= kMaxCapacity,
            "GroupQueryAttention: a capacity that is not a multiple of 8 up to 2**30");
    require(!sinks.data || sinks.shape == Shape{static_cast<int64_t>(shape_.num_heads)},
            "GroupQueryAttention: not one sink for each head");
    require(!rotates_ || (cos.shape.size() == 2 && cos.shape == sin.shape && cos.shape[1] <= dim / 2),
            "GroupQueryAttention: no rotary tables, or wider than a head");
    const int64_t places = rotates_ ? std::min(capacity, cos.shape[0]) : capacity;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t length = int64_t{lengths.data[row]} + 1;
      require(length >= tokens, "GroupQueryAttention: a row shorter than its new tokens");
      require(length <= places, "GroupQueryAttention: a row beyond its capacity");
    }

    AttentionRun<Stored> args{};
    args.rows = rows;
    args.tokens = tokens;
    args.slots = slots;
    args.capacity = capacity;
    args.query = query.data;
    args.query_stride = query.shape[2];
    args.key = key.data ? key.data : query.data + width;
    args.value = key.data ? value.data : query.data + width + key_width;
    args.key_stride = key.data ? key_width : query.shape[2];
    args.keys = reinterpret_cast<Stored*>(run.in_place(1, past_key));
    args.values = reinterpret_cast<Stored*>(run.in_place(2, past_value));
    args.lengths = lengths.data;
    args.cos = rotates_ ? cos.data : nullptr;
    args.sin = sin.data;
    args.rotary_width = rotates_ ? cos.shape[1] : 0;
    args.sinks = sinks.data;
    args.output = run.output<float>(0, {rows, tokens, width});
    attend(shape_, args, run.parallel());
  }

 private:
  static bool flag(const NodeInfo& node, const char* name) {
    const int64_t value = node.integer(name, 0);
    require(value == 0 || value == 1, "GroupQueryAttention: do_rotary or rotary_interleaved is neither 0 nor 1");
    return value;
  }

  // With these limits, products of sizes fit 64 bits, and positions fit the 32-bit lanes of a vector.
  static constexpr int64_t kMaxHeads = 1 << 16, kMaxCapacity = 1 << 30;

  AttentionShape<Stored> shape_{};
  bool rotates_;
};

class SkipSimplifiedLayerNormalization {
 public:
  static constexpr const char* name = "SkipSimplifiedLayerNormalization";
  static constexpr const char* attributes = "epsilon";
  // Input, skip, gamma, bias.
  static constexpr int inputs[] = {kFloat, kFloat, kFloat, -kFloat};
  static constexpr int outputs[] = {kFloat, -kFloat, -kFloat, -kFloat};

  SkipSimplifiedLayerNormalization(const NodeInfo& node, Choice) : epsilon_(node.number("epsilon", 1e-12f)) {
    support(!node.has_input(3), "SkipSimplifiedLayerNormalization: no bias");
    require(std::isfinite(epsilon_) && epsilon_ >= 0, "SkipSimplifiedLayerNormalization: epsilon is impossible");
    support(!node.has_output(1) && !node.has_output(2),
            "SkipSimplifiedLayerNormalization: no output of mean or deviation");
  }

  void compute(const Run& run) const {
    const auto x = run.input<float>(0), skip = run.input<float>(1), gamma = run.input<float>(2);
    require(!x.shape.empty() && x.shape == skip.shape && gamma.shape == std::vector<int64_t>{x.shape.back()},
            "SkipSimplifiedLayerNormalization: shapes that do not agree");
    const int64_t width = x.shape.back();
    const int64_t rows = width ? elements(x.shape) / width : 0;
    float* y = run.output<float>(0, x.shape);
    add_and_normalise(x.data, skip.data, gamma.data, epsilon_, rows, width, y,
                      run.optional_output<float>(3, x.shape), run.parallel());
  }

 private:
  float epsilon_;
};

// An operator of infrs's own domain. The graph also defines it as a function of ONNX Runtime's operators.
class GatedQuickGelu {
 public:
  static constexpr const char* name = "GatedQuickGelu";
  static constexpr const char* attributes = "";
  static constexpr int inputs[] = {kFloat};
  static constexpr int outputs[] = {kFloat};

  GatedQuickGelu(const NodeInfo&, Choice) {}

  void compute(const Run& run) const {
    const auto x = run.input<float>(0);
    auto shape = x.shape;
    require(!shape.empty() && shape.back() > 0 && shape.back() % 2 == 0, "GatedQuickGelu: a row without two halves");
    shape.back() /= 2;
    gate(x.data, elements(x.shape) / x.shape.back(), shape.back(), run.output<float>(0, shape), run.parallel());
  }
};

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

bool has_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

// Nodes of the session that this thread creates and that have no kernel here: an output, the node's name and the
// reason, with tabs between them, one node per line.
thread_local std::string refusals;

// Entries of a session's configuration: use no more than AVX2; no more than AVX-VNNI; round activations to 16 bits
// everywhere; the dtype of stored keys and values; replace only the nodes that the caller has moved to the domains
// below; the number of threads; the instructions in use.
constexpr const char *kAvx2 = "infrs.avx2", *kAvxVnni = "infrs.avx_vnni", *kPrecise = "infrs.precise",
                     *kKVDtype = "infrs.kv_dtype", *kSelected = "infrs.selected", *kThreads = "infrs.threads",
                     *kInstructions = "infrs.instructions";

constexpr const char* kKVDtypes[] = {"float32", "float16", "int8"};

// Operators that replace those of ONNX Runtime, and those of infrs's own domain. A node in one of the other two domains
// has been moved there by the caller (infrs/native/nodes.py): ONNX Runtime then runs the nodes that stayed behind. The
// names are as long as those that they stand for, so moving a node changes no length in a file.
constexpr const char *kReplaced = "com.microsoft", *kOwn = "infrs.native", *kSelectedReplaced = "infrs.kernels",
                     *kSelectedOwn = "native.infrs";

bool has_entry(const OrtSessionOptions* options, const char* entry) {
  int is_there = 0;
  check(api->HasSessionConfigEntry(options, entry, &is_there));
  return is_there;
}

std::string entry(const OrtSessionOptions* options, const char* name) {
  char text[16];
  size_t size = sizeof text;
  check(api->GetSessionConfigEntry(options, name, text, &size));
  return text;
}

// Returns the place of a session's dtype of keys and values in kKVDtypes. Without an entry they are float32.
size_t kv_dtype_of(const OrtSessionOptions* options) {
  if (!has_entry(options, kKVDtype)) return 0;
  const auto found = std::find(std::begin(kKVDtypes), std::end(kKVDtypes), entry(options, kKVDtype));
  require(found != std::end(kKVDtypes), "the session entry infrs.kv_dtype is neither float32, float16 nor int8");
  return static_cast<size_t>(found - std::begin(kKVDtypes));
}

// Returns how many threads run the nodes of a session, or as many as the processor has if the caller does not say it.
size_t threads_of(const OrtSessionOptions* options) {
  if (!has_entry(options, kThreads)) return std::max(1u, std::thread::hardware_concurrency());
  const long threads = std::strtol(entry(options, kThreads).c_str(), nullptr, 10);
  require(0 < threads && threads <= 1 << 16, "the session entry infrs.threads is not a number of threads");
  return threads;
}

OrtCustomOpDomain* new_domain(const char* name, std::initializer_list<const OrtCustomOp*> operators) {
  OrtCustomOpDomain* domain;
  check(api->CreateCustomOpDomain(name, &domain));
  for (const OrtCustomOp* op : operators) check(api->CustomOpDomain_Add(domain, op));
  return domain;
}

// All operators for one choice, in the domains that a session can ask for.
struct Operators {
  explicit Operators(Choice choice)
      : matmul(choice), narrow_matmul(choice), levels_matmul(choice), attention(choice), half_attention(choice),
        byte_attention(choice), norm(choice), gate(choice), experts(choice), linear(choice),
        short_convolution(choice), softplus(choice) {
    for (const bool selected : {false, true}) {
      const char* const name = selected ? kSelectedReplaced : kReplaced;
      const OrtCustomOp* const attentions[] = {&attention, &half_attention, &byte_attention};
      for (size_t kv = 0; kv < std::size(attentions); ++kv)
        replaced[selected][kv] = new_domain(name, {&matmul, attentions[kv], &norm});
      own[selected] = new_domain(
          selected ? kSelectedOwn : kOwn,
          {&narrow_matmul, &levels_matmul, &gate, &experts, &linear, &short_convolution, &softplus});
    }
  }

  Operator<MatMulNBits<float>> matmul;
  Operator<MatMulNBits<uint16_t>> narrow_matmul;
  Operator<MatMulLevels> levels_matmul;
  Operator<GroupQueryAttention<float>> attention;
  Operator<GroupQueryAttention<Half>> half_attention;
  Operator<GroupQueryAttention<Byte>> byte_attention;
  Operator<SkipSimplifiedLayerNormalization> norm;
  Operator<GatedQuickGelu> gate;
  Operator<ExpertsNode> experts;
  Operator<LinearNode> linear;
  Operator<ShortConvolutionNode> short_convolution;
  Operator<SoftplusNode> softplus;
  OrtCustomOpDomain* replaced[2][std::size(kKVDtypes)];  // whether only selected nodes are replaced; a KV dtype
  OrtCustomOpDomain* own[2];
};

// Returns the operators for a choice. Sessions keep pointers to them for as long as they live, so they are never freed,
// and sessions with the same choice share them.
const Operators& operators_of(Choice choice) {
  static std::mutex mutex;
  static auto& known = *new std::map<std::array<size_t, 5>, const Operators*>;
  const std::lock_guard<std::mutex> lock(mutex);
  const Operators*& found = known[{choice.threads, choice.avx512, choice.vnni, choice.wide, choice.bf16}];
  if (!found) found = new Operators(choice);
  return *found;
}

void add_operators(OrtSessionOptions* options) {
  const bool asked[] = {has_entry(options, kAvx2), has_entry(options, kAvxVnni)};
  const bool avx512 = has_avx512() && !asked[0] && !asked[1];
  const bool vnni = !avx512 && !asked[0] && (has_avx_vnni() || has_avx512());
  const bool wide = !(avx512 || vnni) || has_entry(options, kPrecise), bf16 = avx512 && !wide && has_bf16();
  const Operators& operators = operators_of({threads_of(options), avx512, vnni, wide, bf16});
  const bool selected = has_entry(options, kSelected);
  check(api->AddCustomOpDomain(options, operators.replaced[selected][kv_dtype_of(options)]));
  check(api->AddCustomOpDomain(options, operators.own[selected]));
  const char* const instructions = avx512 ? wide ? "avx512-precise" : bf16 ? "avx512-bf16" : "avx512"
                                   : vnni ? wide ? "avx-vnni-precise" : "avx-vnni"
                                          : "avx2";
  check(api->AddSessionConfigEntry(options, kInstructions, instructions));
}

template <typename... Kernels>
const char* attributes_of(const char* name) {
  const char* found = nullptr;
  ((std::strcmp(Kernels::name, name) == 0 ? found = Kernels::attributes : nullptr), ...);
  return found;
}

}  // namespace

void refuse(const NodeInfo& node, const char* reason) {
  refusals += node.first_output() + '\t' + node.name() + '\t' + reason + '\n';
}

}  // namespace infrs

#define INFRS_EXPORT extern "C" __attribute__((visibility("default")))

// Returns the refusals of the sessions that this thread has created since its last call. The text is valid until the
// next call.
INFRS_EXPORT const char* infrs_take_refusals() {
  static thread_local std::string taken;
  taken = std::exchange(infrs::refusals, {});
  return taken.c_str();
}

// Returns the attributes that an operator's kernel reads, with spaces between them; null if it has no kernel here.
INFRS_EXPORT const char* infrs_known_attributes(const char* name) {
  using namespace infrs;
  return attributes_of<MatMulNBits<float>, MatMulLevels, GroupQueryAttention<float>, SkipSimplifiedLayerNormalization,
                       GatedQuickGelu, ExpertsNode, LinearNode, ShortConvolutionNode, SoftplusNode>(name);
}

// Writes the results of `weigh_logarithms` and returns 1, or returns 0 if the processor has no AVX2.
INFRS_EXPORT __attribute__((target("no-avx"))) int infrs_weigh_logarithms(
    const float* weights, size_t count, double* sums, double* weighted) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (count) *weighted = infrs::weigh_logarithms(weights, count, sums);
  return 1;
}

// Returns what `draw` returns, or `kUndecided` if the processor has no AVX2 or there is no memory.
INFRS_EXPORT __attribute__((target("no-avx"))) int64_t infrs_draw(
    const float* logits, const float* weights, size_t count, size_t top_k, double typical_p, double top_p, float min_p,
    double temperature, double uniform) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return infrs::kUndecided;
  try {
    return infrs::draw(logits, weights, count, {top_k, typical_p, top_p, min_p}, temperature, uniform);
  } catch (const std::bad_alloc&) {
    return infrs::kUndecided;
  }
}

// Everything else is compiled for AVX2 or more. This function checks that the processor has it. Every processor with
// AVX2 has F16C too, for which clang has no name.
INFRS_EXPORT __attribute__((target("no-avx"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (!api)  // an older ONNX Runtime has no such version, but CreateStatus is at the same place in version 1
    return base->GetApi(1)->CreateStatus(
        ORT_NOT_IMPLEMENTED, "this ONNX Runtime is older than infrs's kernels need; install onnxruntime 1.21 or later");
  infrs::api = api;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    return infrs::api->CreateStatus(ORT_NOT_IMPLEMENTED, "this processor has no AVX2 and FMA");
  return infrs::guarded([options] { infrs::add_operators(options); });
}
