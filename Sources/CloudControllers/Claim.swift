import API
import Base
import ObjectModel

/// Something that can belong to a controller: a pod, a replica set.
package protocol Ownable {
  var uid: String { get }
  var labels: [String: String] { get }
  var owners: [OwnerReference] { get }
  var isBeingDeleted: Bool { get }
}

extension Ownable {
  package var controller: OwnerReference? { owners.first(where: \.isController) }
}

extension PodState: Ownable {}

/// Which objects belong to a controller, which join and which leave: by owner reference and selector.
/// Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#how-a-replicaset-works
package struct Claim<Child: Ownable> {
  /// Belong to the owner and still match.
  package var owned: [Child] = []
  /// Match, belong to nobody, and should become the owner's.
  package var adopted: [Child] = []
  /// Belong to the owner and match no longer.
  package var released: [Child] = []

  /// `ownerLives` is false while the owner is being deleted: then it takes and gives up nothing.
  package init(_ children: [Child], owner: String, ownerLives: Bool, selector: LabelSelector?) {
    for child in children {
      let matches = selector.map { !$0.isEmpty && $0.matches(child.labels) } ?? false
      if let controller = child.controller {
        guard controller.uid == owner else { continue }
        if matches || !ownerLives { owned.append(child) } else { released.append(child) }
      } else if matches, ownerLives, !child.isBeingDeleted {
        adopted.append(child)
      }
    }
  }
}

/// The merge patches that write a claim. Each names uid and revision, so that it fails rather than undoes what
/// somebody else did meanwhile.
package enum ClaimPatch {
  package static func adopt(owners: [OwnerReference], by owner: OwnerReference, uid: String, revision: UInt64) -> Value
  {
    patch(owners.filter { $0.uid != owner.uid } + [owner], uid, revision)
  }
  package static func release(owners: [OwnerReference], from owner: String, uid: String, revision: UInt64) -> Value {
    patch(owners.filter { $0.uid != owner }, uid, revision)
  }
  private static func patch(_ owners: [OwnerReference], _ uid: String, _ revision: UInt64) -> Value {
    [
      "metadata": [
        "uid": .string(uid), "resourceVersion": .string(String(revision)),
        "ownerReferences": owners.isEmpty ? .null : .array(owners.map(\.value)),
      ]
    ]
  }
}
