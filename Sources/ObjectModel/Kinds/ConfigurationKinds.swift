import Base

/// Rules that ConfigMap and Secret share.
private enum ConfigurationRules {
  /// Bytes of all values of a Secret or ConfigMap.
  static let maxData = 1 << 20

  static func keys(_ value: Value, at field: String, into errors: inout Validation) {
    // Paths are made for what is wrong alone, and only that is sorted: nearly nothing is.
    guard case .object(let fields) = value else { return }
    var wrong: [String] = []
    for (key, _) in fields where !Names.configKey(key).isEmpty { wrong.append(key) }
    for key in wrong.sorted() { errors.invalid("\(field)[\(key)]", key, Names.configKey(key)) }
  }

  static func base64(_ value: Value, at field: String, into errors: inout Validation) -> Int {
    var size = 0
    for (key, text) in value.stringMap.sorted(by: { $0.key < $1.key }) {
      if let bytes = Base64.decode(text) {
        size += bytes.count
      } else {
        // The value itself stays out of the message: it may be a secret.
        errors.invalid("\(field)[\(key)]", .string("<hidden>"), "must be base64 (RFC 4648 section 4, with padding)")
      }
    }
    return size
  }

  @Sendable static func isImmutable(_ object: Object) -> Bool { object.value["immutable"].bool == true }

  static func immutable(_ new: Object, _ old: Object, _ fields: [String], into errors: inout Validation) {
    guard isImmutable(old) else { return }
    if new.value["immutable"].bool != true {
      errors.forbidden("immutable", "field is immutable when `immutable` is set")
    }
    for field in fields where new.value[field] != old.value[field] {
      errors.forbidden(field, "field is immutable when `immutable` is set")
    }
  }

  static func count(_ object: Object, _ fields: [String]) -> Value {
    .int(Int64(fields.reduce(0) { $0 + (object.value[$1].object?.count ?? 0) }))
  }
}

extension Kind {
  package static let configMap: Kind = {
    var kind = Kind(kind: "ConfigMap", plural: "configmaps")
    kind.shortNames = ["cm"]
    kind.shape = ["data": .stringMap, "binaryData": .stringMap, "immutable": .bool]
    kind.columns = [
      .name, Column("Data", type: "integer") { ConfigurationRules.count($0, ["data", "binaryData"]) }, .age,
    ]
    kind.validate = { object, errors in
      let (data, binary) = (object.value["data"], object.value["binaryData"])
      ConfigurationRules.keys(data, at: "data", into: &errors)
      ConfigurationRules.keys(binary, at: "binaryData", into: &errors)
      var size = 0
      if case .object(let fields) = binary {
        for (key, _) in fields where !data[key].isNull {
          errors.invalid("data[\(key)]", .string(key), "duplicate of key present in binaryData")
        }
        size = ConfigurationRules.base64(binary, at: "binaryData", into: &errors)
      }
      for (_, text) in data.object ?? Value.Fields() { size += text.string?.utf8.count ?? 0 }
      if size > ConfigurationRules.maxData { errors.tooLong("", ConfigurationRules.maxData) }
    }
    kind.validateUpdate = { ConfigurationRules.immutable($0, $1, ["data", "binaryData"], into: &$2) }
    kind.comparesBody = ConfigurationRules.isImmutable
    kind.isPlacedByMetadata = true
    kind.isSealed = { $0.metadata["annotations"][ConfigMap.sensitiveKeysAnnotation].string != nil }
    return kind
  }()

  package static let secret: Kind = {
    var kind = Kind(kind: "Secret", plural: "secrets")
    kind.shape = ["data": .stringMap, "stringData": .stringMap, "type": .string, "immutable": .bool]
    kind.columns = [
      .name, Column("Type") { .string($0.value["type"].string ?? "") },
      Column("Data", type: "integer") { ConfigurationRules.count($0, ["data"]) }, .age,
    ]
    kind.defaults = { object in
      object.value.setDefault("type", "Opaque")
      for (key, text) in object.value["stringData"].stringMap {
        object.value["data"][key] = .string(Base64.encode(Bytes(text.utf8)))
      }
      object.value.remove("stringData")
    }
    kind.validate = { object, errors in
      ConfigurationRules.keys(object.value["data"], at: "data", into: &errors)
      let size = ConfigurationRules.base64(object.value["data"], at: "data", into: &errors)
      if size > ConfigurationRules.maxData { errors.tooLong("data", ConfigurationRules.maxData) }
      let needed: [String: [String]] = [
        "kubernetes.io/dockerconfigjson": [".dockerconfigjson"], "kubernetes.io/tls": ["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth": ["ssh-privatekey"],
      ]
      for key in needed[object.value["type"].string ?? ""] ?? [] where object.value["data"][key].isNull {
        errors.required("data[\(key)]")
      }
    }
    kind.validateUpdate = { new, old, errors in
      errors.immutable("type", new.value["type"], old.value["type"])
      ConfigurationRules.immutable(new, old, ["data"], into: &errors)
    }
    kind.comparesBody = ConfigurationRules.isImmutable
    kind.selectableFields = ["type": { $0.value["type"].string ?? "" }]
    kind.isSealed = { _ in true }
    return kind
  }()
}
