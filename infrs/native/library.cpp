// The operators that ONNX Runtime takes from this library instead of its own, by the same names and attributes: a
// bundle's graph runs with or without it. A node that a kernel cannot take is an error when the session is made.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "activation.h"
#include "attention.h"
#include "matmul.h"
#include "norm.h"
#include "ort.h"
#include "tiles.h"

namespace infrs {
namespace {

// Wide: 8-bit weights meet inputs of 16 bits wherever they are. Else only in the output layer: what is rounded there
// goes straight into the scores.
// Scale: float, or uint16_t for scales in 16 bits, an operator of infrs's own.
template <TileKernel (*Tiles)(int64_t bits, bool wide), bool Wide, typename Scale>
class MatMulNBits {
 public:
  static constexpr const char* name = "MatMulNBits";
  // Input, weights, scales, zero points, order of the inputs, bias.
  static constexpr int kScale = std::is_same_v<Scale, float> ? kFloat : kFloat16;
  static constexpr int inputs[] = {kFloat, kUInt8, kScale, -kUInt8, -kInt32, -kFloat};
  static constexpr int outputs[] = {kFloat};

  explicit MatMulNBits(const NodeInfo& node)
      : inputs_(node.integer("K", 0)), outputs_(node.integer("N", 0)), weights_(pack(node)) {}

  void compute(const Run& run) const {
    const auto x = run.input<float>(0);
    auto shape = x.shape;
    require(!shape.empty() && shape.back() == inputs_, "MatMulNBits: the input's last dimension is not K");
    shape.back() = outputs_;
    const auto bias = run.input<float>(5);  // ONNX Runtime folds an Add that follows into the node
    require(!bias.data || elements(bias.shape) == outputs_, "MatMulNBits: a bias of another size than N");
    weights_.multiply(x.data, elements(x.shape) / inputs_, bias.data, run.output<float>(0, shape), run.parallel());
  }

 private:
  static PackedMatrix pack(const NodeInfo& node) {
    const int64_t bits = node.integer("bits", 4), k = node.integer("K", 0), n = node.integer("N", 0);
    require(0 < k && k <= kMaxInputs && 0 < n && n <= kMaxOutputs, "MatMulNBits: a K or N of impossible size");
    support(bits == 4 || bits == 8, "MatMulNBits: only 4 and 8 bits");
    support(node.integer("block_size", 0) == kBlock && k % kBlock == 0, "MatMulNBits: only whole blocks of 32");
    support(!node.integer("weight_prepacked", 0), "MatMulNBits: no weights that are packed already");
    support(!node.has_input(3) && !node.has_input(4), "MatMulNBits: no zero points and no order of the inputs");
    const auto values = node.constant<uint8_t>(1);
    const auto scales = node.constant<Scale>(2);
    require(elements(values.shape) == n * k * bits / 8 && elements(scales.shape) == n * k / int64_t{kBlock},
            "MatMulNBits: weights or scales of another size than N and K say");
    return PackedMatrix(values.data, scales.data, n, k, static_cast<int>(bits),
                        Tiles(bits, Wide || is_output_layer(node)));
  }

  // By the name that export gives its product.
  static bool is_output_layer(const NodeInfo& node) { return node.name().rfind("lm_head", 0) == 0; }

  static constexpr int64_t kMaxInputs = 1 << 24, kMaxOutputs = 1 << 28;  // keeps the products of sizes in range

  int64_t inputs_, outputs_;
  PackedMatrix weights_;
};

// Stored: how the keys and values lie in the memory of past and present, which the graph calls float32 of a capacity:
// Half fits twice as many positions into it.
template <typename Stored, bool Avx512>
class GroupQueryAttention {
 public:
  static constexpr const char* name = "GroupQueryAttention";
  static constexpr int inputs[] = {kFloat, -kFloat, -kFloat, kFloat, kFloat, kInt32, kInt32, -kFloat, -kFloat};
  static constexpr int outputs[] = {kFloat, kFloat, kFloat};

  explicit GroupQueryAttention(const NodeInfo& node) : rotates_(flag(node, "do_rotary")) {
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
    shape_.loops = Avx512 ? attention_loops_avx512<Stored>() : attention_loops_avx2<Stored>();
    shape_.wide_loops = Avx512 ? attention_loops_avx512<float>() : attention_loops_avx2<float>();
    support(node.integer("smooth_softmax", -1) <= 0 && !node.integer("qk_output", 0),
            "GroupQueryAttention: only the plain softmax, and no scores");
    support(node.integer("causal", 1) == 1 && !node.integer("sliding_window_cache", 0),
            "GroupQueryAttention: only causal attention, and no sliding cache");
    support(node.text("k_quant_type", "NONE") == "NONE" && node.text("v_quant_type", "NONE") == "NONE" &&
                !node.integer("kv_cache_bit_width", 0),
            "GroupQueryAttention: no quantised keys and values");
  }

  void compute(const Run& run) const {
    const auto query = run.input<float>(0), key = run.input<float>(1), value = run.input<float>(2);
    const auto past_key = run.input<float>(3), past_value = run.input<float>(4);
    const auto lengths = run.input<int32_t>(5);
    const auto cos = run.input<float>(7), sin = run.input<float>(8);
    require(query.shape.size() == 3 && past_key.shape.size() == 4, "GroupQueryAttention: inputs of another rank");

    using Shape = std::vector<int64_t>;
    const int64_t dim = shape_.head_dim, kv_heads = shape_.num_kv_heads;
    const int64_t rows = query.shape[0], tokens = query.shape[1], slots = past_key.shape[2];
    const int64_t capacity = product(slots, sizeof(float) / sizeof(Stored));
    const int64_t width = shape_.num_heads * dim, key_width = kv_heads * dim;
    const Shape past_shape{rows, kv_heads, slots, dim}, key_shape{rows, tokens, key_width};
    require(past_key.shape == past_shape && past_value.shape == past_shape && elements(lengths.shape) == rows &&
                query.shape[2] == (key.data ? width : width + 2 * key_width) &&
                (!key.data || (key.shape == key_shape && value.shape == key_shape)),
            "GroupQueryAttention: shapes that do not agree");
    require(capacity % 8 == 0 && capacity <= kMaxCapacity,
            "GroupQueryAttention: a capacity that is not a multiple of 8 up to 2**30");
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
    args.capacity = capacity;
    args.query = query.data;
    args.query_stride = query.shape[2];
    args.key = key.data ? key.data : query.data + width;
    args.value = key.data ? value.data : query.data + width + key_width;
    args.key_stride = key.data ? key_width : query.shape[2];
    args.keys = in_place(run, 1, past_key);
    args.values = in_place(run, 2, past_value);
    args.lengths = lengths.data;
    args.cos = rotates_ ? cos.data : nullptr;
    args.sin = sin.data;
    args.rotary_width = rotates_ ? cos.shape[1] : 0;
    args.output = run.output<float>(0, {rows, tokens, width});
    attend(shape_, args, run.parallel());
  }

 private:
  static bool flag(const NodeInfo& node, const char* name) {
    const int64_t value = node.integer(name, 0);
    require(value == 0 || value == 1, "GroupQueryAttention: do_rotary or rotary_interleaved is neither 0 nor 1");
    return value;
  }

  // The present tensor with the past in it: nothing to do where both are bound to the same memory.
  static Stored* in_place(const Run& run, size_t output, const Tensor<const float>& past) {
    float* present = run.output<float>(output, past.shape);
    if (present != past.data) std::copy_n(past.data, elements(past.shape), present);
    return reinterpret_cast<Stored*>(present);
  }

  // They keep products of sizes in range, and positions in the 32 bits of a vector's lanes.
  static constexpr int64_t kMaxHeads = 1 << 16, kMaxCapacity = 1 << 30;

  AttentionShape<Stored> shape_{};
  bool rotates_;
};

class SkipSimplifiedLayerNormalization {
 public:
  static constexpr const char* name = "SkipSimplifiedLayerNormalization";
  static constexpr int inputs[] = {kFloat, kFloat, kFloat};
  static constexpr int outputs[] = {kFloat, -kFloat, -kFloat, -kFloat};

  explicit SkipSimplifiedLayerNormalization(const NodeInfo& node) : epsilon_(node.number("epsilon", 1e-12f)) {
    require(std::isfinite(epsilon_) && epsilon_ >= 0, "SkipSimplifiedLayerNormalization: epsilon is impossible");
    support(!node.has_output(1) && !node.has_output(2), "SkipSimplifiedLayerNormalization: no mean, no deviation");
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

// infrs's own: a graph that has it defines it as a function too, of ONNX Runtime's operators.
class GatedQuickGelu {
 public:
  static constexpr const char* name = "GatedQuickGelu";
  static constexpr int inputs[] = {kFloat};
  static constexpr int outputs[] = {kFloat};

  explicit GatedQuickGelu(const NodeInfo&) {}

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

OrtCustomOpDomain* domain(const char* name, std::initializer_list<const OrtCustomOp*> operators) {
  OrtCustomOpDomain* made;
  check(api->CreateCustomOpDomain(name, &made));
  for (const OrtCustomOp* op : operators) check(api->CustomOpDomain_Add(made, op));
  return made;
}

// Entries of a session: to go no further than AVX2, to give 8-bit weights inputs of 16 bits everywhere, to store keys
// and values in 16 bits, and the note of what is used.
constexpr const char *kAvx2 = "infrs.avx2", *kPrecise = "infrs.precise", *kHalves = "infrs.halves",
                     *kInstructions = "infrs.instructions";

bool has_entry(const OrtSessionOptions* options, const char* entry) {
  int is_there = 0;
  check(api->HasSessionConfigEntry(options, entry, &is_there));
  return is_there;
}

OrtStatus* add_operators(OrtSessionOptions* options) {
  static const Operator<MatMulNBits<tiles_avx2, true, float>> matmul_avx2;
  static const Operator<MatMulNBits<tiles_avx512, false, float>> matmul_avx512;
  static const Operator<MatMulNBits<tiles_avx512, true, float>> matmul_precise;
  static const Operator<MatMulNBits<tiles_avx2, true, uint16_t>> narrow_matmul_avx2;
  static const Operator<MatMulNBits<tiles_avx512, false, uint16_t>> narrow_matmul_avx512;
  static const Operator<MatMulNBits<tiles_avx512, true, uint16_t>> narrow_matmul_precise;
  static const Operator<GroupQueryAttention<float, false>> attention_avx2;
  static const Operator<GroupQueryAttention<Half, false>> half_attention_avx2;
  static const Operator<GroupQueryAttention<float, true>> attention_avx512;
  static const Operator<GroupQueryAttention<Half, true>> half_attention_avx512;
  static const Operator<SkipSimplifiedLayerNormalization> norm;
  static const Operator<GatedQuickGelu> gated;
  return guarded([options] {
    // ONNX Runtime keeps pointers to them for as long as the sessions live: one of each for all of them.
    enum { kOnlyAvx2, kAvx512, kAvx512Precise };
    static OrtCustomOpDomain* const replaced[][2] = {
        {domain("com.microsoft", {&matmul_avx2, &attention_avx2, &norm}),
         domain("com.microsoft", {&matmul_avx2, &half_attention_avx2, &norm})},
        {domain("com.microsoft", {&matmul_avx512, &attention_avx512, &norm}),
         domain("com.microsoft", {&matmul_avx512, &half_attention_avx512, &norm})},
        {domain("com.microsoft", {&matmul_precise, &attention_avx512, &norm}),
         domain("com.microsoft", {&matmul_precise, &half_attention_avx512, &norm})},
    };
    static OrtCustomOpDomain* const own[] = {
        domain("infrs.native", {&narrow_matmul_avx2, &gated}),
        domain("infrs.native", {&narrow_matmul_avx512, &gated}),
        domain("infrs.native", {&narrow_matmul_precise, &gated}),
    };
    static const char* const names[] = {"avx2", "avx512", "avx512-precise"};
    const bool narrow = !has_avx512() || has_entry(options, kAvx2);
    const auto kind = narrow ? kOnlyAvx2 : has_entry(options, kPrecise) ? kAvx512Precise : kAvx512;
    check(api->AddCustomOpDomain(options, replaced[kind][has_entry(options, kHalves)]));
    check(api->AddCustomOpDomain(options, own[kind]));
    check(api->AddSessionConfigEntry(options, kInstructions, names[kind]));
  });
}

}  // namespace
}  // namespace infrs

// All is compiled for AVX2 or more but this function, which looks whether the processor has it. F16C is older: where
// AVX2 is, it is too, and clang has no name for it.
extern "C" __attribute__((visibility("default"), target("no-avx"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (!api)  // an older one has no such version, but CreateStatus is where it was in the first
    return base->GetApi(1)->CreateStatus(
        ORT_NOT_IMPLEMENTED, "this ONNX Runtime is older than infrs's kernels need; install onnxruntime 1.21 or later");
  infrs::api = api;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    return infrs::api->CreateStatus(ORT_NOT_IMPLEMENTED, "this processor has no AVX2 and FMA");
  return infrs::add_operators(options);
}
