module attributes {transform.with_named_sequence} {
  transform.named_sequence @generalize(%module: !transform.any_op) {
    %matmuls = transform.structured.match ops{["linalg.matmul"]} in %module : (!transform.any_op) -> !transform.any_op
    %generics = transform.structured.generalize %matmuls : (!transform.any_op) -> !transform.any_op
    transform.yield
  }
}
