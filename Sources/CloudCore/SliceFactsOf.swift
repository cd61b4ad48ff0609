import Base
import ObjectModel
import Sync
import Wire

/// What an object means for slices, as its kind declares it.
enum SliceFactsOf {
  static func object(_ key: String, _ body: Bytes, _ registry: KindRegistry) -> SliceFacts {
    let resource = key.prefix { $0 != "/" }
    guard let kind = registry[resource: String(resource)], let value = try? CBOR.decode(body) else {
      return SliceFacts(node: nil, references: [])
    }
    let object = Object(value)
    return SliceFacts(node: kind.node(object), references: kind.references(object))
  }
}
