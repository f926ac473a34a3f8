// Turns a C++ class into a custom operator of ONNX Runtime, through the C API of onnxruntime_c_api.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel.h"
#include "sizes.h"
#include "../third_party/onnxruntime_c_api.h"

namespace infrs {

inline const OrtApi* api = nullptr;  // set once, by RegisterCustomOps

// Throws the error that ONNX Runtime reports. `guarded` turns exceptions back into a status.
inline void check(OrtStatus* status) {
  if (!status) return;
  const std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(message);
}

// Throws std::invalid_argument unless `holds`: the node or its inputs contradict themselves, so no kernel can run it.
inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// A node that these kernels do not implement. ONNX Runtime's own kernel may.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws Unsupported unless `holds`.
inline void support(bool holds, const char* message) {
  if (!holds) throw Unsupported(message);
}

// Calls `work` and turns its exception into a status. `invalid` precedes the message of std::invalid_argument.
template <typename Work>
OrtStatus* guarded(const Work& work, const char* invalid = "") noexcept {
  try {
    work();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return api->CreateStatus(ORT_INVALID_ARGUMENT, (invalid + std::string(error.what())).c_str());
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}

// A tensor that ONNX Runtime owns.
template <typename T>
struct Tensor {
  std::vector<int64_t> shape;
  T* data = nullptr;  // null: an optional input or output that the node omits
};

// Returns a tensor's shape; an unknown dimension is -1.
inline std::vector<int64_t> dimensions(const OrtTensorTypeAndShapeInfo* info) {
  size_t rank = 0;
  check(api->GetDimensionsCount(info, &rank));
  std::vector<int64_t> shape(rank);
  check(api->GetDimensions(info, shape.data(), rank));
  return shape;
}

inline std::vector<int64_t> shape_of(const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info;
  check(api->GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(api->ReleaseTensorTypeAndShapeInfo)> owner(
      info, api->ReleaseTensorTypeAndShapeInfo);
  return dimensions(info);
}

// A node's attributes and constant inputs, available while ONNX Runtime creates its kernel.
class NodeInfo {
 public:
  explicit NodeInfo(const OrtKernelInfo* info) : info_(info) {}

  // Each returns an attribute, or `otherwise` if the node does not have it, and throws if it has another type.
  int64_t integer(const char* name, int64_t otherwise) const {
    int64_t value;
    return read(api->KernelInfoGetAttribute_int64(info_, name, &value)) ? value : absent(name, otherwise);
  }
  float number(const char* name, float otherwise) const {
    float value;
    return read(api->KernelInfoGetAttribute_float(info_, name, &value)) ? value : absent(name, otherwise);
  }
  std::string text(const char* name, const char* otherwise) const {
    size_t size = 0;
    if (!read(api->KernelInfoGetAttribute_string(info_, name, nullptr, &size))) return absent(name, otherwise);
    std::string value(size, '\0');
    check(api->KernelInfoGetAttribute_string(info_, name, value.data(), &size));
    return value.c_str();  // without the terminating zero
  }
  std::string name() const {
    size_t size = 0;
    check(api->KernelInfo_GetNodeName(info_, nullptr, &size));
    std::string name(size, '\0');
    check(api->KernelInfo_GetNodeName(info_, name.data(), &size));
    return name.c_str();  // without the terminating zero
  }
  // Whether the node has this input. An optional input may also be omitted before the last one, as an empty name.
  bool has_input(size_t index) const {
    size_t count, size = 0;
    check(api->KernelInfo_GetInputCount(info_, &count));
    if (index >= count) return false;
    check(api->KernelInfo_GetInputName(info_, index, nullptr, &size));
    return size > 1;  // the size counts the terminating zero
  }
  bool has_output(size_t index) const { return !output_name(index).empty(); }
  // Returns the first output that the node has; its name identifies the node in its graph.
  std::string first_output() const {
    std::string name;
    for (size_t index = 0; name.empty() && index < outputs(); ++index) name = output_name(index);
    return name;
  }
  // Returns a dimension of an input as the graph declares it; -1 if the graph does not.
  int64_t dimension(size_t index, size_t axis) const {
    OrtTypeInfo* type;
    check(api->KernelInfo_GetInputTypeInfo(info_, index, &type));
    const std::unique_ptr<OrtTypeInfo, decltype(api->ReleaseTypeInfo)> owner(type, api->ReleaseTypeInfo);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check(api->CastTypeInfoToTensorInfo(type, &tensor));
    const auto shape = tensor ? dimensions(tensor) : std::vector<int64_t>{};
    return axis < shape.size() ? shape[axis] : -1;
  }
  template <typename T>
  Tensor<const T> constant(size_t index) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(api->KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
    support(is_constant && value, "an input that must be constant is not");
    void* data;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return {shape_of(value), static_cast<const T*>(data)};
  }
  // Returns the tensor type of a constant input.
  int constant_type(size_t index) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(api->KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
    support(is_constant && value, "an input that must be constant is not");
    OrtTensorTypeAndShapeInfo* info;
    check(api->GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(api->ReleaseTensorTypeAndShapeInfo)> owner(
        info, api->ReleaseTensorTypeAndShapeInfo);
    ONNXTensorElementDataType type;
    check(api->GetTensorElementType(info, &type));
    return type;
  }

 private:
  size_t outputs() const {
    size_t count;
    check(api->KernelInfo_GetOutputCount(info_, &count));
    return count;
  }
  std::string output_name(size_t index) const {
    size_t size = 0;
    if (index >= outputs()) return {};
    check(api->KernelInfo_GetOutputName(info_, index, nullptr, &size));
    std::string name(size, '\0');
    check(api->KernelInfo_GetOutputName(info_, index, name.data(), &size));
    return name.c_str();  // without the terminating zero
  }
  static bool read(OrtStatus* status) {
    if (!status) return true;
    api->ReleaseStatus(status);  // the attribute does not exist, or has another type
    return false;
  }
  template <typename T>
  T absent(const char* name, T otherwise) const {
    int64_t integer;
    float number;
    size_t size = 0;
    const bool is_there = read(api->KernelInfoGetAttribute_int64(info_, name, &integer)) ||
                          read(api->KernelInfoGetAttribute_float(info_, name, &number)) ||
                          read(api->KernelInfoGetAttribute_string(info_, name, nullptr, &size)) ||
                          read(api->KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size)) ||
                          read(api->KernelInfoGetAttributeArray_float(info_, name, nullptr, &size));
    if (is_there) throw std::invalid_argument("the attribute " + std::string(name) + " has another type");
    return otherwise;
  }
  const OrtKernelInfo* info_;
};

// A node's inputs and outputs during one run.
class Run {
 public:
  Run(OrtKernelContext* context, size_t threads) : context_(context), threads_(threads) {}

  template <typename T>
  Tensor<const T> input(size_t index) const {
    const OrtValue* value = nullptr;
    check(api->KernelContext_GetInput(context_, index, &value));
    if (!value) return {};
    void* data;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return {shape_of(value), static_cast<const T*>(data)};
  }
  template <typename T>
  T* output(size_t index, const std::vector<int64_t>& shape) const {
    T* data = optional_output<T>(index, shape);
    require(data || !elements(shape), "a required output is omitted");
    return data;
  }
  // Returns null if the node does not have this output.
  template <typename T>
  T* optional_output(size_t index, const std::vector<int64_t>& shape) const {
    OrtValue* value = nullptr;
    check(api->KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value));
    if (!value) return nullptr;
    void* data;
    check(api->GetTensorMutableData(value, &data));
    return static_cast<T*>(data);
  }
  // Returns an output with the shape and values of `past`, which is copied unless both are bound to the same memory.
  float* in_place(size_t index, const Tensor<const float>& past) const {
    float* present = output<float>(index, past.shape);
    if (present != past.data) std::copy_n(past.data, elements(past.shape), present);
    return present;
  }
  Parallel parallel() const {
    return {[](void* pool, void (*run)(void*, size_t), size_t parts, void* data) {
              // So many batches, or ONNX Runtime would deal the parts to the threads before they start.
              check(api->KernelContext_ParallelFor(static_cast<OrtKernelContext*>(pool), run, parts, parts, data));
            },
            context_, threads_};
  }

 private:
  OrtKernelContext* context_;
  size_t threads_;
};

// Records why a node has no kernel here, so that the caller can leave the node to ONNX Runtime.
void refuse(const NodeInfo& node, const char* reason);

// The choices that are the same for every node of a session.
struct Choice {
  size_t threads;      // that run the nodes
  bool avx512;         // vectors of 512 bits, with AVX512-VNNI; else of 256
  bool vnni;           // dot products of integers in vectors of 256 bits
  bool wide;           // 16-bit activations in every product with 8-bit weights
  bool bf16 = false;   // AVX512-BF16 for products whose inputs may be rounded to bfloat16
};

// `Kernel` has a static `name`, static `inputs` and `outputs` (tensor types; a negative type is optional), a
// constructor from NodeInfo and Choice, and `compute(const Run&) const`.
template <typename Kernel>
struct Operator : OrtCustomOp {
  explicit Operator(Choice chosen) : OrtCustomOp{}, choice(chosen) {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) { return Kernel::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
    GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::inputs); };
    GetInputType = [](const OrtCustomOp*, size_t i) { return type(Kernel::inputs[i]); };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) { return kind(Kernel::inputs[i]); };
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::outputs); };
    GetOutputType = [](const OrtCustomOp*, size_t i) { return type(Kernel::outputs[i]); };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t i) { return kind(Kernel::outputs[i]); };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
      return guarded([&] { *kernel = create(NodeInfo(info), static_cast<const Operator*>(op)->choice); },
                     "invalid node: ");
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      return guarded([&] {
        if (!kernel) throw Unsupported("infrs's kernels do not implement this node");
        const auto* instance = static_cast<const Instance*>(kernel);
        instance->kernel.compute(Run(context, instance->threads));
      });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Instance*>(kernel); };
  }

  const Choice choice;

 private:
  struct Instance {
    Kernel kernel;
    size_t threads;
  };

  // Returns null for a node that the kernel does not implement. ONNX Runtime then creates the kernels of the other
  // nodes, so one attempt finds every such node.
  static Instance* create(const NodeInfo& node, Choice choice) {
    try {
      return new Instance{Kernel(node, choice), choice.threads};
    } catch (const Unsupported& error) {
      refuse(node, error.what());
      return nullptr;
    }
  }
  static ONNXTensorElementDataType type(int tensor) { return static_cast<ONNXTensorElementDataType>(std::abs(tensor)); }
  static OrtCustomOpInputOutputCharacteristic kind(int tensor) {
    return tensor < 0 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
};

constexpr int kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr int kFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
constexpr int kBFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
constexpr int kAnyType = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
constexpr int kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
constexpr int kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
constexpr int kUInt8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;

}  // namespace infrs
