// What depends on constants only would be evaluated at compile time, where a planned kernel has no body: the workloads of
// such calls go through barriers. What reads an argument needs none, nor does what is no planned kernel.
// RUN: dlas-opt %s --pass-pipeline='dlas-outline-kernels' | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: %[[TWO:.*]] = arith.constant 2 : index
// CHECK: %[[N:.*]] = util.optimization_barrier %[[TWO]] : index
// CHECK: %[[FIRST:.*]] = flow.dispatch @twice_1::@twice_1[%[[N]]](%{{.*}}) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK-NOT: util.optimization_barrier
// CHECK: %[[MOVED:.*]] = flow.dispatch.workgroups[%[[TWO]]](%arg0)
// CHECK: %[[M:.*]] = util.optimization_barrier %[[TWO]] : index
// CHECK: flow.dispatch @twice_1::@twice_1[%[[M]]](%[[FIRST]])
// CHECK-NOT: util.optimization_barrier
// CHECK: flow.dispatch @twice_1::@twice_1[%[[TWO]]](%[[MOVED]])
func.func @main(%x: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %two = arith.constant 2 : index
  %c = arith.constant dense<[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> : tensor<8xf32>
  %0 = flow.dispatch.workgroups[%two](%c) : (tensor<8xf32>) -> tensor<8xf32> =
      (%in: !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>>, %out: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>) {
    %id = flow.dispatch.workgroup.id[0] : index
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [%id], sizes = [4], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>> -> tensor<4xf32>
    %e = tensor.empty() : tensor<4xf32>
    %b = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) attrs = {dlas.kernel = "twice_1", dlas.role = "epilogue"} {
    ^bb0(%l: f32, %o: f32):
      %s = arith.addf %l, %l : f32
      linalg.yield %s : f32
    } -> tensor<4xf32>
    iree_tensor_ext.dispatch.tensor.store %b, %out, offsets = [%id], sizes = [4], strides = [1] : tensor<4xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>
    flow.return
  } count(%n: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %n, %one, %one : index, index, index
  }
  %1 = flow.dispatch.workgroups[%two](%x) : (tensor<8xf32>) -> tensor<8xf32> =
      (%in: !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>>, %out: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>) {
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [0], sizes = [8], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>> -> tensor<8xf32>
    iree_tensor_ext.dispatch.tensor.store %a, %out, offsets = [0], sizes = [8], strides = [1] : tensor<8xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>
    flow.return
  } count(%n: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %n, %one, %one : index, index, index
  }
  %2 = flow.dispatch.workgroups[%two](%0) : (tensor<8xf32>) -> tensor<8xf32> =
      (%in: !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>>, %out: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>) {
    %id = flow.dispatch.workgroup.id[0] : index
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [%id], sizes = [4], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>> -> tensor<4xf32>
    %e = tensor.empty() : tensor<4xf32>
    %b = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) attrs = {dlas.kernel = "twice_1", dlas.role = "epilogue"} {
    ^bb0(%l: f32, %o: f32):
      %s = arith.addf %l, %l : f32
      linalg.yield %s : f32
    } -> tensor<4xf32>
    iree_tensor_ext.dispatch.tensor.store %b, %out, offsets = [%id], sizes = [4], strides = [1] : tensor<4xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>
    flow.return
  } count(%n: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %n, %one, %one : index, index, index
  }
  %3 = flow.dispatch.workgroups[%two](%1) : (tensor<8xf32>) -> tensor<8xf32> =
      (%in: !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>>, %out: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>) {
    %id = flow.dispatch.workgroup.id[0] : index
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [%id], sizes = [4], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>> -> tensor<4xf32>
    %e = tensor.empty() : tensor<4xf32>
    %b = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) attrs = {dlas.kernel = "twice_1", dlas.role = "epilogue"} {
    ^bb0(%l: f32, %o: f32):
      %s = arith.addf %l, %l : f32
      linalg.yield %s : f32
    } -> tensor<4xf32>
    iree_tensor_ext.dispatch.tensor.store %b, %out, offsets = [%id], sizes = [4], strides = [1] : tensor<4xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>
    flow.return
  } count(%n: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %n, %one, %one : index, index, index
  }
  return %2, %3 : tensor<8xf32>, tensor<8xf32>
}
