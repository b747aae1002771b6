// Convolutions of device arrays: the functions of csrc/bindings/conv.cpp, with the call before their arguments.
#include <list>
#include <memory>
#include <mutex>

#include "again.h"
#include "bindings.h"
#include "window.h"

namespace fastconv::cuda::bindings {
namespace {

std::optional<Argument> optional_argument(const py::object& view, const char* name) {
  if (view.is_none()) return std::nullopt;
  return Argument(view, name);
}

// Plans that were made, the most recently used first: making one takes longer than all else that a call does here.
struct PlanCache {
  struct Entry {
    ConvProblem problem;
    Device device;
    Precision precision;
    std::string forced;
    Element element;
    bool pooled;
    size_t hash;
    std::shared_ptr<const ConvPlan> plan;
  };
  std::mutex mutex;
  std::list<Entry> entries;
};
constexpr size_t kCachedPlans = 64;  // a few networks of layers; they are looked through one after another

// The plan of a checked problem: a request that no row can do is refused before anything is allocated.
std::shared_ptr<const ConvPlan> plan_of(const ConvProblem& problem, const py::tuple& window_tuple, const Window& window,
                                        Element element, bool pooled = false) {
  static auto* const cache = new PlanCache;  // never destroyed: threads may outlive main
  const Device device = current_device();
  const Precision precision = precision_of(window_tuple);
  const std::string& forced = window.algorithm;
  const size_t hash = problem.hash();
  {
    const std::lock_guard lock(cache->mutex);
    for (auto entry = cache->entries.begin(); entry != cache->entries.end(); ++entry)
      if (entry->hash == hash && entry->element == element && entry->pooled == pooled &&
          entry->precision == precision && entry->device.arch == device.arch &&
          entry->device.multiprocessors == device.multiprocessors && entry->forced == forced &&
          entry->problem == problem) {
        cache->entries.splice(cache->entries.begin(), cache->entries, entry);
        return entry->plan;
      }
  }
  auto plan = std::make_shared<const ConvPlan>(make_plan(problem, device, precision, forced, element, pooled));
  const std::lock_guard lock(cache->mutex);
  cache->entries.push_front({problem, device, precision, forced, element, pooled, hash, plan});
  if (cache->entries.size() > kCachedPlans) cache->entries.pop_back();
  return plan;
}

// What a forward or a transposed convolution is given, but for its window.
struct Given {
  Element element;
  Shape x, w;
  std::optional<Shape> bias, residual;
};

std::shared_ptr<const ConvPlan> plan_of(const std::string& op, const Given& given, const py::tuple& window_tuple,
                                        const py::object& output_padding, bool pooled) {
  const Window window = window_from(window_tuple);
  const bool transposed = !output_padding.is_none();
  ConvSpec spec = spec_from(window, op.c_str(), transposed ? Direction::input_gradient : Direction::forward,
                            checked_as(given.element));
  spec.transposed = transposed;
  spec.w_shape = given.w;
  spec.y_name = "x";
  if (transposed) spec.output_padding = output_padding.cast<Shape>();
  (transposed ? spec.y_shape : spec.x_shape) = given.x;
  spec.bias_shape = given.bias, spec.residual_shape = given.residual;
  return plan_of(ConvProblem::make(spec), window_tuple, window, given.element, pooled);
}

Shape result_shape(const ConvPlan& plan, bool pooled) {
  return pooled ? pooled_shape(plan.problem) : plan.problem.result_shape();
}

// Convolutions that have come before, as in csrc/bindings/conv.cpp.
KnownCalls<SeenArray, KnownConv, 127>& known_convs() {
  static auto* const calls = new KnownCalls<SeenArray, KnownConv, 127>;
  return *calls;
}

// conv_again(name, x, weight, bias, spelled): the result where this call has come before, else None. The name is how
// many axes there are, or the name of another operation on the same arguments.
PyObject* conv_again(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return for_python([&]() -> py::object {
    if (count != 5) return {};
    const SeenArray arrays[] = {SeenArray(arguments[1]), SeenArray(arguments[2]), SeenArray(arguments[3])};
    if (!arrays[0] || !arrays[1] || (!arrays[2] && arguments[3] != Py_None)) return {};
    const KnownConv* const found = known_convs().find(arguments[0], arguments[4], arrays);
    if (!found) return {};
    const KnownConv known = *found;  // the slot may change hands as soon as Python runs
    return known.run(arrays, {arrays[0].data(), arrays[1].data(), nullptr, arrays[2].data()});
  });
}

// After the long way has gone well; make_call(x) describes it as Call's first argument does.
void remember_conv(const std::string& op, const py::object& name, const py::object& input, const py::object& weight,
                   const py::object& bias, const py::tuple& spelled, const py::tuple& window, bool pooled,
                   const py::function& make_call) {
  const SeenArray x(input.ptr()), w(weight.ptr()), b(bias.ptr());
  if (!x || !w || !w.is_of_library(x) || (b ? !b.is_of_library(x) : !bias.is_none()) || !never_changes(spelled.ptr()))
    return;
  const OnDevice on(x.device());
  Given given{x.element(), x.shape(), w.shape(), {}, {}};
  if (b) given.bias = b.shape();
  const auto plan = plan_of(op, given, window, py::none(), pooled);
  const SeenArray arrays[] = {x, w, b};
  known_convs().remember(name.ptr(), spelled.ptr(), arrays,
                         KnownConv(plan, make_call("x", input), x, result_shape(*plan, pooled)));
}

// With `pooled` the maxima of 2 x 2 results, stride 2, are returned (../plan.h).
py::object conv(const py::object& call_object, const std::string& op, const py::object& input, const py::object& weight,
                const py::object& bias, const py::object& residual, const py::tuple& window,
                const py::object& output_padding, const py::object& out, bool pooled) {
  Argument x(input, "x"), w(weight, "weight");
  std::optional<Argument> b = optional_argument(bias, "bias"), r = optional_argument(residual, "residual");
  w.expect(x.element(), "x");
  if (b) b->expect(x.element(), "x");
  if (r) r->expect(x.element(), "x");
  const Call call(call_object);
  Given given{x.element(), x.shape(), w.shape(), {}, {}};
  if (b) given.bias = b->shape();
  if (r) given.residual = r->shape();
  const auto plan = plan_of(op, given, window, output_padding, pooled);

  const size_t alignment = alignment_of(*plan);
  const void* const x_data = x.data(call, alignment);
  const void* const w_data = w.data(call, plan->weight_alignment);
  const void* const b_data = b ? b->data(call) : nullptr;
  const void* const r_data = r ? r->data(call, alignment) : nullptr;
  const Result result(call, out, result_shape(*plan, pooled), x.element(),
                      {{x_data, x.bytes()}, {w_data, w.bytes()}, {b_data, b ? b->bytes() : 0}},
                      {r_data, r ? r->bytes() : 0}, alignment);
  if (plan->problem.batch > 0) {
    ConvOperands operands{const_cast<void*>(x_data), const_cast<void*>(w_data), result.data(), b_data, nullptr, r_data};
    if (!output_padding.is_none()) std::swap(operands.x, operands.y);
    run(call, *plan, operands);
  }
  return result.take();
}

py::object conv_input_gradient(const py::object& call_object, const std::string& op, const Shape& input_size,
                               const py::object& weight, const py::object& grad_output, const py::tuple& window_tuple,
                               const py::object& out) {
  const Window window = window_from(window_tuple);
  Argument w(weight, "weight"), y(grad_output, "grad_output");
  w.expect(y.element(), "grad_output");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::input_gradient, y.dtype());
  spec.x_shape = input_size;
  spec.x_name = "input_size";
  spec.w_shape = w.shape();
  spec.y_shape = y.shape();
  const ConvProblem problem = ConvProblem::make(spec);
  const Call call(call_object);
  const auto plan = plan_of(problem, window_tuple, window, y.element());

  const void* const w_data = w.data(call, plan->weight_alignment);
  const void* const y_data = y.data(call);
  const Result result(call, out, problem.result_shape(), y.element(), {{w_data, w.bytes()}, {y_data, y.bytes()}});
  if (problem.batch > 0) run(call, *plan, {result.data(), const_cast<void*>(w_data), const_cast<void*>(y_data)});
  return result.take();
}

py::object conv_weight_gradient(const py::object& call_object, const std::string& op, const py::object& input,
                                const Shape& weight_size, const py::object& grad_output, const py::tuple& window_tuple,
                                const py::object& out) {
  const Window window = window_from(window_tuple);
  Argument x(input, "input"), y(grad_output, "grad_output");
  y.expect(x.element(), "input");
  ConvSpec spec = spec_from(window, op.c_str(), Direction::weight_gradient, x.dtype());
  spec.x_shape = x.shape();
  spec.x_name = "input";
  spec.w_shape = weight_size;
  spec.w_name = "weight_size";
  spec.y_shape = y.shape();
  const ConvProblem problem = ConvProblem::make(spec);
  const Call call(call_object);
  const auto plan = plan_of(problem, window_tuple, window, x.element());

  const void* const x_data = x.data(call);
  const void* const y_data = y.data(call);
  const Result result(call, out, problem.result_shape(), x.element(), {{x_data, x.bytes()}, {y_data, y.bytes()}});
  if (problem.batch > 0) {
    run(call, *plan, {const_cast<void*>(x_data), result.data(), const_cast<void*>(y_data)});
  } else {
    const size_t bytes = static_cast<size_t>(problem.weight_elements()) * cuda::size_of(x.element());
    check(cudaMemsetAsync(result.data(), 0, bytes, call.stream.handle), "zeroing the gradient of an empty batch");
  }
  return result.take();
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("conv", &conv);
  static PyMethodDef again{"conv_again", nullptr, METH_FASTCALL, "The result of a call that has come before, or None."};
  m.attr("conv_again") = quick_function(again, &conv_again);
  m.def("remember_conv", &remember_conv);
  m.def("conv_input_gradient", &conv_input_gradient);
  m.def("conv_weight_gradient", &conv_weight_gradient);
}

}  // namespace fastconv::cuda::bindings
