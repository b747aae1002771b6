# fastconv._cuda, where a CUDA compiler is: included by the top-level CMakeLists.txt.
#
# nvcc is called as the tool that it is and not as CMake's language CUDA, because the language wants to link programs
# and to know a device when it is enabled, and stops the whole build where that fails. So nothing here asks for a GPU,
# and with FASTCONV_CUDA=AUTO nothing here can break an installation for the CPU.
#
# The module has cudart in it and links to no other CUDA library: libcuda is opened by cudart, at the first call.

set(FASTCONV_CUDA "AUTO" CACHE STRING "Build the CUDA kernels: AUTO (where nvcc 12 or newer is), ON or OFF")
set_property(CACHE FASTCONV_CUDA PROPERTY STRINGS AUTO ON OFF)
# A plain number is machine code of that architecture, which also runs on later ones of its first digit; +PTX, at any of
# them, is what drivers compile for all that are newer than the least. Releases: 80;86;89;90;100;120+PTX. Here stands the
# short list of a build from source, which is to take minutes.
set(FASTCONV_CUDA_ARCHS "80;90+PTX" CACHE STRING "Architectures, such as 80;86;89;90;100;120+PTX")

# For tests/test_cuda_static.py: machine code is what is looked at.
set(FASTCONV_CUDA_KEEP "" CACHE PATH "A folder where the machine code of each kernel is to be left as files of its own")

# Sets FASTCONV_CUDA_FOUND, or FASTCONV_CUDA_MISSING to what is missing.
function(fastconv_find_cuda)
  set(FASTCONV_CUDA_FOUND OFF PARENT_SCOPE)
  set(roots "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda /opt/cuda)
  foreach(folder IN LISTS Python_SITELIB Python_SITEARCH Python3_SITELIB)  # the packages nvidia-cuda-nvcc and others
    list(APPEND roots "${folder}/nvidia/cu13" "${folder}/nvidia/cu12" "${folder}/nvidia/cuda_nvcc")
  endforeach()
  list(TRANSFORM roots APPEND /bin OUTPUT_VARIABLE folders)
  find_program(FASTCONV_NVCC nvcc HINTS ENV CUDACXX PATHS ${folders})
  if(NOT FASTCONV_NVCC)
    set(FASTCONV_CUDA_MISSING "no nvcc was found" PARENT_SCOPE)
    return()
  endif()
  # A dry run prints where this nvcc, which may be a script that calls another, has its headers and libraries.
  execute_process(COMMAND "${FASTCONV_NVCC}" --dryrun -c -x cu /dev/null -o /dev/null
                  ERROR_VARIABLE said OUTPUT_VARIABLE said RESULT_VARIABLE failed)
  string(REGEX MATCH "TOP=([^\n]*)" found "${said}")
  get_filename_component(top "${CMAKE_MATCH_1}" ABSOLUTE)
  if(failed OR NOT found)
    set(FASTCONV_CUDA_MISSING "${FASTCONV_NVCC} does not run" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND "${FASTCONV_NVCC}" --version OUTPUT_VARIABLE said)
  string(REGEX MATCH "release ([0-9]+[.][0-9]+)" found "${said}")
  set(version "${CMAKE_MATCH_1}")
  if(version VERSION_LESS 12.0)
    set(FASTCONV_CUDA_MISSING "nvcc is version ${version}, expected 12.0 or newer" PARENT_SCOPE)
    return()
  endif()
  find_path(FASTCONV_CUDA_INCLUDE cuda_runtime.h NO_DEFAULT_PATH
            PATHS ${top}/include ${top}/targets/x86_64-linux/include ${top}/targets/sbsa-linux/include
                  ${top}/../cuda_runtime/include)
  find_library(FASTCONV_CUDART cudart_static NO_DEFAULT_PATH
               PATHS ${top}/lib64 ${top}/lib ${top}/targets/x86_64-linux/lib ${top}/targets/sbsa-linux/lib
                     ${top}/../cuda_runtime/lib)
  if(NOT FASTCONV_CUDA_INCLUDE OR NOT FASTCONV_CUDART)
    set(FASTCONV_CUDA_MISSING "nvcc has neither cuda_runtime.h nor libcudart_static.a with it (nvidia-cuda-runtime)"
        PARENT_SCOPE)
    return()
  endif()
  set(FASTCONV_CUDA_VERSION "${version}" PARENT_SCOPE)
  set(FASTCONV_CUDA_FOUND ON PARENT_SCOPE)
endfunction()

# What every kernel is compiled with. C++20 is what the project is written in; the host compiler is that of the rest.
# The kernels are translated once, to the PTX of the least architecture, and machine code of all is made of that: the
# translation takes as long as all else, and no kernel but that of Hopper has anything for an architecture of its own.
function(fastconv_cuda_flags out)
  set(flags -std=c++20 -O3 --expt-relaxed-constexpr -ccbin "${CMAKE_CXX_COMPILER}" "-I${FASTCONV_CUDA_INCLUDE}"
      "-Xcompiler=-fPIC,-fvisibility=hidden")
  if(FASTCONV_CUDA_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND flags --compress-mode=size)  # without, a wheel is twice as large
  endif()
  set(least "")
  set(code "")
  foreach(arch IN LISTS FASTCONV_CUDA_ARCHS)
    if(NOT arch MATCHES "^[0-9]+([+]PTX)?$")
      message(FATAL_ERROR "FASTCONV_CUDA_ARCHS has ${arch}: expected numbers such as 80, the last as 90+PTX")
    endif()
    string(REPLACE "+PTX" "" number "${arch}")
    list(APPEND code "sm_${number}")
    if(NOT least OR number LESS least)
      set(least ${number})
    endif()
  endforeach()
  if(FASTCONV_CUDA_ARCHS MATCHES "PTX")
    list(APPEND code "compute_${least}")
  endif()
  list(JOIN code "," code)
  list(APPEND flags "-gencode=arch=compute_${least},code=[${code}]")
  set(${out} ${flags} PARENT_SCOPE)
endfunction()

# Whether nvcc, this host compiler and this standard library fit each other: known only by trying.
function(fastconv_try_cuda out)
  set(probe "${CMAKE_CURRENT_BINARY_DIR}/cuda_probe.cu")
  file(WRITE "${probe}" "#include <cuda_runtime.h>\n#include <functional>\n#include <span>\n#include <string>\n"
       "#include <tuple>\n#include <vector>\n__global__ void probe(int* at) { *at = 1; }\n"
       "int* span(std::span<int> s) { return s.data(); }\n")
  fastconv_cuda_flags(flags)
  execute_process(COMMAND "${FASTCONV_NVCC}" ${flags} -c "${probe}" -o "${probe}.o"
                  RESULT_VARIABLE failed ERROR_VARIABLE said OUTPUT_VARIABLE said)
  string(SUBSTRING "${said}" 0 400 said)
  set(${out} "" PARENT_SCOPE)
  if(failed)
    set(${out} "nvcc does not compile with this host compiler or for ${FASTCONV_CUDA_ARCHS}: ${said}" PARENT_SCOPE)
  endif()
endfunction()

function(fastconv_add_cuda_module)
  fastconv_cuda_flags(flags)
  file(GLOB kernels CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/cuda/*/*.cu")
  if(FASTCONV_CUDA_KEEP)
    file(MAKE_DIRECTORY "${FASTCONV_CUDA_KEEP}")
    list(APPEND flags --keep --keep-dir "${FASTCONV_CUDA_KEEP}")
  endif()
  set(objects "")
  foreach(kernel IN LISTS kernels)
    get_filename_component(name "${kernel}" NAME_WE)
    set(kernel_flags ${flags})
    if(name STREQUAL "im2col_wgmma")  # instructions of compute capability 9.0 and of no other
      list(FILTER kernel_flags EXCLUDE REGEX "^-gencode")
      # and GCC has a note on parameters that are aligned to 64 bytes
      list(APPEND kernel_flags "-gencode=arch=compute_90a,code=sm_90a" -Xcompiler=-Wno-psabi)
    endif()
    set(object "${CMAKE_CURRENT_BINARY_DIR}/cuda/${name}.o")
    add_custom_command(
      OUTPUT "${object}"
      COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_CURRENT_BINARY_DIR}/cuda"
      COMMAND "${FASTCONV_NVCC}" ${kernel_flags} -MD -MF "${object}.d" -MT "cuda/${name}.o" -c "${kernel}" -o "${object}"
      DEPENDS "${kernel}"
      DEPFILE "${object}.d"
      COMMENT "nvcc ${name}.cu for ${FASTCONV_CUDA_ARCHS}"
      VERBATIM)
    list(APPEND objects "${object}")
  endforeach()
  pybind11_add_module(_cuda MODULE NO_EXTRAS
    csrc/core/problem.cpp
    csrc/core/gather.cpp
    csrc/core/pool_problem.cpp
    cuda/plan.cpp
    cuda/algorithms.cpp
    cuda/algorithms/pointwise.cpp
    cuda/bindings/module.cpp
    cuda/bindings/again.cpp
    cuda/bindings/conv.cpp
    cuda/bindings/device.cpp
    cuda/bindings/elementwise.cpp
    cuda/bindings/memory.cpp
    cuda/bindings/plan.cpp
    cuda/bindings/pool.cpp
    ${objects}
  )
  target_include_directories(_cuda SYSTEM PRIVATE "${FASTCONV_CUDA_INCLUDE}")
  target_compile_options(_cuda PRIVATE -O2 ${FASTCONV_WARNINGS})
  list(JOIN FASTCONV_CUDA_ARCHS ", " archs)
  target_compile_definitions(_cuda PRIVATE
    FASTCONV_VERSION="${PROJECT_VERSION}"
    FASTCONV_CUDA_COMPILER="nvcc ${FASTCONV_CUDA_VERSION}"
    FASTCONV_CUDA_BUILT_FOR="${archs}")
  target_link_libraries(_cuda PRIVATE "${FASTCONV_CUDART}" ${CMAKE_DL_LIBS} rt pthread)
  target_link_options(_cuda PRIVATE "-Wl,--exclude-libs,ALL")  # another cudart in the process stays another one
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_link_options(_cuda PRIVATE -s)
  endif()
  install(TARGETS _cuda DESTINATION fastconv)
endfunction()

# An editable installation is built again and again, and nvcc takes minutes: there AUTO is OFF.
set(fastconv_cuda_wanted "${FASTCONV_CUDA}")
if(FASTCONV_CUDA STREQUAL "AUTO" AND ("${SKBUILD_STATE}" STREQUAL "editable" OR NOT CMAKE_SYSTEM_NAME STREQUAL "Linux"))
  set(fastconv_cuda_wanted OFF)
endif()
if(NOT fastconv_cuda_wanted)
  message(STATUS "fastconv: no CUDA kernels in this build (FASTCONV_CUDA=${FASTCONV_CUDA})")
else()
  fastconv_find_cuda()
  if(FASTCONV_CUDA_FOUND)
    fastconv_try_cuda(FASTCONV_CUDA_MISSING)
  endif()
  if(FASTCONV_CUDA_MISSING)
    if(FASTCONV_CUDA STREQUAL "AUTO")
      message(STATUS "fastconv: no CUDA kernels in this build: ${FASTCONV_CUDA_MISSING}")
    else()
      message(FATAL_ERROR "FASTCONV_CUDA=${FASTCONV_CUDA}, but ${FASTCONV_CUDA_MISSING}")
    endif()
  else()
    message(STATUS "fastconv: CUDA kernels by nvcc ${FASTCONV_CUDA_VERSION} for ${FASTCONV_CUDA_ARCHS}")
    fastconv_add_cuda_module()
  endif()
endif()
