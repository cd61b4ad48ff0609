import API
import Base
import ObjectModel

/// Something that can belong to a controller: a pod, a replica set.
package protocol Ownable {
  /// Where it is: what a call names.
  var place: ObjectReference { get }
  var uid: String { get }
  var revision: UInt64 { get }
  var labels: [String: String] { get }
  var owners: [OwnerReference] { get }
  var isBeingDeleted: Bool { get }
}

extension Ownable {
  package var controller: OwnerReference? { owners.first(where: \.isController) }
}

extension PodState: Ownable {
  package var place: ObjectReference { reference }
}

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
  package static func adopt(_ child: some Ownable, by owner: OwnerReference) -> Value {
    patch(child, child.owners.filter { $0.uid != owner.uid } + [owner])
  }
  package static func release(_ child: some Ownable, from owner: String) -> Value {
    patch(child, child.owners.filter { $0.uid != owner })
  }
  private static func patch(_ child: some Ownable, _ owners: [OwnerReference]) -> Value {
    [
      "metadata": [
        "uid": .string(child.uid), "resourceVersion": .string(String(child.revision)),
        "ownerReferences": owners.isEmpty ? .null : .array(owners.map(\.value)),
      ]
    ]
  }
}

extension ReconcileContext {
  /// Writes a claim: `adopt` join the owner that stands at `reference`, `release` leave it.
  func claim<Child: Ownable>(
    by owner: OwnerReference, at reference: ObjectReference, adopt: [Child], release: [Child],
    seenBy informer: any InformerProgress
  ) async throws(APIError) {
    if !adopt.isEmpty {
      // The cache may not show yet that the owner is being deleted; whoever adopts then makes a child that nobody frees.
      let fresh = try await api.get(reference, caller: caller)
      guard let current = try? fresh.decoded(), current.uid == owner.uid, !current.isBeingDeleted else {
        throw APIError(
          .conflict, "\(owner.kind) \(reference.namespace)/\(reference.name) was replaced or is being deleted")
      }
    }
    for child in adopt { try await patch(child.place, ClaimPatch.adopt(child, by: owner), seenBy: informer) }
    for child in release {
      try await patch(child.place, ClaimPatch.release(child, from: owner.uid), seenBy: informer)
    }
  }
}
