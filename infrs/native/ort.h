// A custom operator of ONNX Runtime as a C++ class, over the C interface of onnxruntime_c_api.h.
#pragma once

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
#include "third_party/onnxruntime_c_api.h"

namespace infrs {

inline const OrtApi* api = nullptr;  // set once, by RegisterCustomOps

// Raises what ONNX Runtime reports; a kernel's exceptions become a status again at its border.
inline void check(OrtStatus* status) {
  if (!status) return;
  const std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(message);
}

// What no kernel could do: the node or its inputs contradict themselves.
inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// What these kernels do not do: ONNX Runtime's own may.
inline void support(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(message);
}

// Does `work`; its exceptions become a status. `invalid` precedes the message of what no kernel could do.
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
  T* data = nullptr;  // null: an optional input or output that the graph leaves out
};

// A dimension that is not known is -1.
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

// A node's attributes and constant inputs, while its kernel is made.
class NodeInfo {
 public:
  explicit NodeInfo(const OrtKernelInfo* info) : info_(info) {}

  // An attribute, or `otherwise` where the node has none of this name. Each throws if it is of another type.
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
    return value.c_str();  // without the zero at its end
  }
  std::string name() const {
    size_t size = 0;
    check(api->KernelInfo_GetNodeName(info_, nullptr, &size));
    std::string name(size, '\0');
    check(api->KernelInfo_GetNodeName(info_, name.data(), &size));
    return name.c_str();  // without the zero at its end
  }
  // Whether the node has an input of this index: optional ones before its last may be left out too.
  bool has_input(size_t index) const {
    size_t count, size = 0;
    check(api->KernelInfo_GetInputCount(info_, &count));
    if (index >= count) return false;
    check(api->KernelInfo_GetInputName(info_, index, nullptr, &size));
    return size > 1;  // with the zero at its end
  }
  bool has_output(size_t index) const {
    size_t count, size = 0;
    check(api->KernelInfo_GetOutputCount(info_, &count));
    if (index >= count) return false;
    check(api->KernelInfo_GetOutputName(info_, index, nullptr, &size));
    return size > 1;
  }
  // What the graph says of an input's shape; -1 if it leaves that open.
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
    support(is_constant && value, "an input that has to be constant is not");
    void* data;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return {shape_of(value), static_cast<const T*>(data)};
  }

 private:
  static bool read(OrtStatus* status) {
    if (!status) return true;
    api->ReleaseStatus(status);  // the attribute is not there, or of another type
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
    if (is_there) throw std::invalid_argument("the attribute " + std::string(name) + " is of another type");
    return otherwise;
  }
  const OrtKernelInfo* info_;
};

// A node's inputs and outputs in one run.
class Run {
 public:
  explicit Run(OrtKernelContext* context) : context_(context) {}

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
    require(data || !elements(shape), "an output that is not optional is left out");
    return data;
  }
  // Null where the node has no such output.
  template <typename T>
  T* optional_output(size_t index, const std::vector<int64_t>& shape) const {
    OrtValue* value = nullptr;
    check(api->KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value));
    if (!value) return nullptr;
    void* data;
    check(api->GetTensorMutableData(value, &data));
    return static_cast<T*>(data);
  }
  Parallel parallel() const {
    return {[](void* pool, void (*run)(void*, size_t), size_t parts, void* data) {
              check(api->KernelContext_ParallelFor(static_cast<OrtKernelContext*>(pool), run, parts, 0, data));
            },
            context_};
  }

 private:
  OrtKernelContext* context_;
};

// `Kernel` has a static `name`, static `inputs` and `outputs` (types; a negative type is an optional tensor), a
// constructor from NodeInfo and `compute(const Run&) const`.
template <typename Kernel>
struct Operator : OrtCustomOp {
  Operator() : OrtCustomOp{} {
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
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
      return guarded([&] { *kernel = new Kernel(NodeInfo(info)); }, "invalid node: ");
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      return guarded([&] { static_cast<const Kernel*>(kernel)->compute(Run(context)); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

 private:
  static ONNXTensorElementDataType type(int tensor) { return static_cast<ONNXTensorElementDataType>(std::abs(tensor)); }
  static OrtCustomOpInputOutputCharacteristic kind(int tensor) {
    return tensor < 0 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
};

constexpr int kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
constexpr int kFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
constexpr int kInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
constexpr int kUInt8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;

}  // namespace infrs
