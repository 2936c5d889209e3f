// Equal kernels become one executable, whose function holds nothing but its bindings while IREE plans around it; what
// is no planned kernel stays as it is. Restored, the body reads the bindings of that function.
// RUN: dlas-opt %s --pass-pipeline='dlas-outline-kernels' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-outline-kernels{restore=1}' | FileCheck %s --check-prefix=RESTORED

// CHECK: done: -: 1 kernels
// CHECK: flow.executable private @twice_1
// CHECK: flow.executable.export public @twice_1 workgroups(%{{.*}}: index) -> (index, index, index)
// CHECK: func.func @twice_1(%[[IN:.*]]: {{.*}}readonly:tensor<8xf32>>, %[[OUT:.*]]: {{.*}}writeonly:tensor<8xf32>>)
// CHECK-NEXT: util.optimization_barrier {dlas.kernel = "twice_1"} %[[IN]], %[[OUT]]
// CHECK-NEXT: return
// CHECK-NOT: flow.executable private

// CHECK-LABEL: func.func @main
// CHECK-NOT: util.optimization_barrier
// CHECK: %[[FIRST:.*]] = flow.dispatch @twice_1::@twice_1[%{{.*}}](%arg0) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK-NOT: util.optimization_barrier
// CHECK: %[[SECOND:.*]] = flow.dispatch @twice_1::@twice_1[%{{.*}}](%[[FIRST]]) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK: flow.dispatch.workgroups[%{{.*}}](%[[SECOND]])

// RESTORED: func.func @twice_1(%[[IN:.*]]: {{.*}}, %[[OUT:.*]]: {{.*}}) {
// RESTORED-NOT: optimization_barrier
// RESTORED: %[[ID:.*]] = hal.interface.workgroup.id[0]
// RESTORED: %[[X:.*]] = iree_tensor_ext.dispatch.tensor.load %[[IN]], offsets = [%[[ID]]]
// RESTORED: %[[Y:.*]] = linalg.generic {{.*}}ins(%[[X]] : tensor<4xf32>)
// RESTORED: iree_tensor_ext.dispatch.tensor.store %[[Y]], %[[OUT]], offsets = [%[[ID]]]
// RESTORED: return
func.func @main(%x: tensor<8xf32>) -> tensor<8xf32> {
  %two = arith.constant 2 : index
  %0 = flow.dispatch.workgroups[%two](%x) : (tensor<8xf32>) -> tensor<8xf32> =
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
  %1 = flow.dispatch.workgroups[%two](%0) : (tensor<8xf32>) -> tensor<8xf32> =
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
  %2 = flow.dispatch.workgroups[%two](%1) : (tensor<8xf32>) -> tensor<8xf32> =
      (%in: !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>>, %out: !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>) {
    %a = iree_tensor_ext.dispatch.tensor.load %in, offsets = [0], sizes = [8], strides = [1] : !iree_tensor_ext.dispatch.tensor<readonly:tensor<8xf32>> -> tensor<8xf32>
    iree_tensor_ext.dispatch.tensor.store %a, %out, offsets = [0], sizes = [8], strides = [1] : tensor<8xf32> -> !iree_tensor_ext.dispatch.tensor<writeonly:tensor<8xf32>>
    flow.return
  } count(%n: index) -> (index, index, index) {
    %one = arith.constant 1 : index
    flow.return %n, %one, %one : index, index, index
  }
  return %2 : tensor<8xf32>
}
