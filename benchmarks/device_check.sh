#!/usr/bin/env bash
# All that needs a GPU, in one command and under eight minutes: benchmarks/device_check.sh [FOLDER]
#
# Builds the package with the CUDA kernels for the GPU of this machine, tests them there, compares them with the emulator,
# runs small cases under compute-sanitizer, and times everything against PyTorch. Needs nvcc, g++, and a python3 with
# PyTorch, NumPy, pytest, hypothesis, scikit-build-core, pybind11, cmake and ninja; no package index, nothing installed
# outside of FOLDER (build/device_check). PYTHON names another python3. What was found is in FOLDER: a log for each step,
# device.json and device.md of the benchmark. Status 0: every step passed or, where the summary says so, was left out.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

out=${1:-build/device_check}
python=${PYTHON:-python3}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
summary=$out/summary.txt
: >"$summary"
failures=0

say() { echo "$*" | tee -a "$summary"; }
give_up() { echo "device_check: $*" >&2; exit 2; }

# run NAME SECONDS COMMAND...: output into NAME.log, whose end is shown where the command fails.
run() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    say "$(printf '%-12s %4d s   ok' "$name" $((SECONDS - begin)))"
  else
    say "$(printf '%-12s %4d s   FAILED (%d)' "$name" $((SECONDS - begin)) "$status")"
    tail -n 40 "$out/$name.log"
    failures=$((failures + 1))
  fi
  return "$status"
}

command -v "$python" >/dev/null || give_up "no $python on the path"
arch=$("$python" - 2>"$out/look.log" <<'END'
import importlib.util, sys
missing = [name for name in ("torch", "numpy", "pytest", "hypothesis", "scikit_build_core", "pybind11")
           if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"this python3 lacks {', '.join(missing)}")
import torch
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU here")
print("%d%d" % torch.cuda.get_device_capability(0))
END
) || give_up "$(tail -n 1 "$out/look.log")"
for tool in nvcc cmake c++; do
  command -v "$tool" >/dev/null || { [ "$tool" = nvcc ] && [ -x /usr/local/cuda/bin/nvcc ]; } || give_up "no $tool here"
done
say "sm_$arch, $("$python" -c 'import torch; print(torch.cuda.get_device_name(0), "torch", torch.__version__)')"

# Where the tests and the emulator are on the path, and the package that is built here before any other one.
export PYTHONPATH=$out/site PYTHONDONTWRITEBYTECODE=1
rm -rf "$out/site"
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc)
export CMAKE_BUILD_PARALLEL_LEVEL
"$python" -m tests.cuda_emulator.build >"$out/emulator.log" 2>&1 &
emulator=$!
run build 200 "$python" -m pip install --quiet --no-build-isolation --no-deps --no-index --target "$out/site" \
  -Ccmake.define.FASTCONV_CUDA=ON "-Ccmake.define.FASTCONV_CUDA_ARCHS=$arch" . || exit 1
run info 60 "$python" -c 'import fastconv; fastconv.show_config(); assert fastconv.is_cuda_available()' || exit 1
cat "$out/info.log"

run tests 120 "$python" -m pytest -q -x -p no:cacheprovider tests/test_cuda_device.py -k "not emulator"
if wait "$emulator"; then
  run golden 60 "$python" -m pytest -q -p no:cacheprovider -s tests/test_cuda_device.py -k emulator
else
  say "golden       LEFT OUT: the emulator does not build here ($out/emulator.log)"
fi

if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null); then
  small=("$python" -m pytest -q -x -p no:cacheprovider tests/test_cuda_device.py -k small)
  for tool in memcheck racecheck; do
    if ! run "$tool" 60 "$sanitizer" --tool "$tool" --error-exitcode 9 --target-processes all "${small[@]}" &&
      grep -q "Device not supported" "$out/$tool.log"; then
      failures=$((failures - 1))
      say "$tool     LEFT OUT: compute-sanitizer does not work with the device of this machine"
    fi
  done
else
  say "sanitizer    LEFT OUT: no compute-sanitizer here"
fi

# What is left of seven and a half minutes, but three at most; the rows come in the order of importance.
left=$((450 - SECONDS))
[ "$left" -le 180 ] || left=180
[ "$left" -ge 30 ] || left=30
run bench $((left + 60)) "$python" -m fastconv bench --device cuda --json "$out/device.json" \
  --minutes "${BENCH_MINUTES:-$("$python" -c "print($left / 60)")}"
cp "$out/bench.log" "$out/device.md"
cat "$out/device.md"
echo
echo "=== summary, $SECONDS s; everything is in $out"
cat "$summary"
exit $((failures > 0))
