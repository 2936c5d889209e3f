// A kernel for tensors of any extent: the function is told the extent and gives it to its binding, the call has tensors
// of the extents that they have, and the casts between are gone.
// RUN: dlas-opt %s --pass-pipeline='dlas-outline-kernels' | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-outline-kernels{restore=1}' | FileCheck %s --check-prefix=RESTORED

// CHECK: func.func @twice_1(%[[IN:.*]]: {{.*}}readonly:tensor<?xf32>>, %[[N:.*]]: index, %[[OUT:.*]]: {{.*}}writeonly:tensor<?xf32>>)
// CHECK-DAG: %[[X:.*]] = flow.dispatch.tie_shape %[[IN]] : {{.*}}{%[[N]]}
// CHECK-DAG: %[[Y:.*]] = flow.dispatch.tie_shape %[[OUT]] : {{.*}}{%[[N]]}
// CHECK: util.optimization_barrier {dlas.kernel = "twice_1"} %[[X]], %[[N]], %[[Y]]

// CHECK-LABEL: func.func @main
// CHECK-NOT: tensor.cast
// CHECK: %[[FIRST:.*]] = flow.dispatch @twice_1::@twice_1[%{{.*}}](%arg0, %[[EIGHT:.*]]) : (tensor<8xf32>, index) -> tensor<8xf32>
// CHECK-NOT: tensor.cast
// CHECK: return %[[FIRST]]

// RESTORED: func.func @twice_1
// RESTORED: %[[X:.*]] = flow.dispatch.tie_shape
// RESTORED-NOT: optimization_barrier
// RESTORED: iree_tensor_ext.dispatch.tensor.load %{{.*}}, offsets = [%{{.*}}], sizes = [4], strides = [1] : {{.*}}tensor<?xf32>>{%{{.*}}} -> tensor<4xf32>
func.func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
  %two = arith.constant 2 : index
  %eight = arith.constant 8 : index
  %any = tensor.cast %x : tensor<8xf32> to tensor<?xf32>
  %0 = flow.dispatch.workgroups[%two](%any, %eight) : (tensor<?xf32>{%eight}, index) -> tensor<?xf32>{%eight} =
      (%input: !iree_tensor_ext.dispatch.tensor<readonly:tensor<?xf32>>, %n: index, %output: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<?xf32>>) {
    %in = flow.dispatch.tie_shape %input : !iree_tensor_ext.dispatch.tensor<readonly:tensor<?xf32>>{%n}
    %out = flow.dispatch.tie_shape %output : !iree_tensor_ext.dispatch.tensor<writeonly:tensor<?xf32>>{%n}
    %id = flow.dispatch.workgroup.id[0] : index
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [%id], sizes = [4], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<?xf32>>{%n} -> tensor<4xf32>
    %e = tensor.empty() : tensor<4xf32>
    %b = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%a : tensor<4xf32>) outs(%e : tensor<4xf32>) attrs = {dlas.kernel = "twice_1", dlas.role = "epilogue"} {
    ^bb0(%l: f32, %o: f32):
      %s = arith.addf %l, %l : f32
      linalg.yield %s : f32
    } -> tensor<4xf32>
    iree_tensor_ext.dispatch.tensor.store %b, %out, offsets = [%id], sizes = [4], strides = [1] : tensor<4xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<?xf32>>{%n}
    flow.return
  } count(%w: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %w, %one, %one : index, index, index
  }
  %y = tensor.cast %0 : tensor<?xf32> to tensor<8xf32>
  return %y : tensor<8xf32>
}
