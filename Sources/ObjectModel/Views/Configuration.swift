import Base

/// A view of a ConfigMap (v1).
package struct ConfigMap: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "configmaps"
  /// Names the keys whose values are secret, separated by commas; such a ConfigMap is sealed as a whole.
  package static let sensitiveKeysAnnotation = "skerry.io/sensitive-keys"

  package var data: [String: String] { object.value["data"].stringMap }
  package var binaryData: [String: Bytes] { object.value["binaryData"].stringMap.compactMapValues(Base64.decode) }
  package var isImmutable: Bool { object.value["immutable"].bool ?? false }
  package var sensitiveKeys: [String] {
    (object.annotations[Self.sensitiveKeysAnnotation] ?? "").split(separator: ",").map { key in
      String(key.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
  }
  /// Every key as bytes, of `data` and `binaryData`: what a volume shows.
  package var files: [String: Bytes] { binaryData.merging(data.mapValues { Bytes($0.utf8) }) { $1 } }
}

/// A view of a Secret (v1). `stringData` never is stored: the server merges it into `data`.
package struct Secret: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "secrets"

  package var type: String { object.value["type"].string ?? "Opaque" }
  package var isImmutable: Bool { object.value["immutable"].bool ?? false }
  /// Decoded; what is not base64 is left out (validation refuses it).
  package var data: [String: Bytes] { object.value["data"].stringMap.compactMapValues(Base64.decode) }
}
