import Base

/// Helps to write a whole `status` by a merge patch, which by itself only adds and replaces members.
package enum MergePatchDifference {
  /// `new`, with a null for each member at the top that only `old` has, so that the patch removes it.
  package static func nulling(_ new: Value, absentFrom old: Value) -> Value {
    var patch = new
    for key in old.object?.keys ?? [] where new.object?[key] == nil { patch[key] = .null }
    return patch
  }
}
