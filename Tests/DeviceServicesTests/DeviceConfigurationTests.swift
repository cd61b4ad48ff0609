import Base
import DeviceSDK
import DeviceServices
import ObjectModel
import Testing

@Suite struct DeviceConfigurationTests {
  static let model = Object([
    "metadata": ["name": "boiler-model", "namespace": "default"],
    "spec": [
      "properties": [
        ["name": "temperature", "type": "FLOAT", "accessMode": "ReadOnly"],
        ["name": "setpoint", "type": "int", "accessMode": "ReadWrite", "minimum": "5", "maximum": "90"],
        ["name": "odd", "type": "COMPLEX"],
        ["name": "loose", "type": "INT", "minimum": "low"],
      ]
    ],
  ])

  private func device(_ properties: Value, protocolName: Value = "modbus", model: Value = "boiler-model") -> Object {
    Object([
      "metadata": ["name": "boiler", "namespace": "default", "uid": "u1"],
      "spec": [
        "deviceModelRef": ["name": model], "nodeName": "n1",
        "protocol": ["protocolName": protocolName, "configData": ["ip": "127.0.0.1"]], "properties": properties,
      ],
    ])
  }

  @Test func joinsDeviceAndModel() {
    let outcome = DeviceConfiguration.join(
      device: device([
        [
          "name": "temperature", "collectCycle": 250,
          "visitors": ["protocolName": "modbus", "configData": ["offset": 1]],
        ],
        ["name": "setpoint", "visitors": ["configData": ["offset": 2]], "desired": ["value": "21"]],
      ]), model: Self.model)
    #expect(outcome.problems.isEmpty)
    #expect(
      outcome.assignment
        == DeviceAssignment(
          device: "default/boiler", uid: "u1", protocolName: "modbus", configuration: ["ip": "127.0.0.1"],
          properties: [
            PropertyAssignment(
              name: "temperature", type: .float, writable: false, visitor: ["offset": 1], interval: 250),
            PropertyAssignment(
              name: "setpoint", type: .int, writable: true, minimum: 5, maximum: 90, visitor: ["offset": 2],
              interval: 1000),
          ]))
  }

  static let badProperties: [(Value, String)] = [
    (["name": "missing"], "DeviceModel \"boiler-model\" has no property"),
    (["name": "odd"], "COMPLEX"),
    (["name": "loose"], "minimum"),
    (["name": "temperature", "visitors": ["protocolName": "opcua"]], "opcua"),
    (["name": "temperature", "collectCycle": 10_000_000_000], "milliseconds"),
    ([:], "no name"),
  ]

  @Test(arguments: badProperties) func oneBadPropertyLeavesTheOthers(_ property: Value, _ words: String) {
    let outcome = DeviceConfiguration.join(device: device([property, ["name": "setpoint"]]), model: Self.model)
    #expect(outcome.assignment?.properties.map(\.name) == ["setpoint"])
    #expect(outcome.problems.count == 1)
    let text = outcome.problems.first?.description ?? ""
    #expect(text.contains("default/boiler") && text.contains(words), "\(text)")
  }

  @Test func wholeDevicesThatCannotBeUsed() {
    let good: Value = [["name": "setpoint"]]
    let missingModel = DeviceConfiguration.join(device: device(good), model: nil)
    #expect(missingModel.assignment == nil)
    #expect(missingModel.problems.first?.message.contains("boiler-model") == true)
    #expect(DeviceConfiguration.join(device: device(good, protocolName: ""), model: Self.model).assignment == nil)
    #expect(DeviceConfiguration.join(device: device(good, model: .null), model: Self.model).assignment == nil)
    let twice = DeviceConfiguration.join(
      device: device([["name": "setpoint"], ["name": "setpoint"]]), model: Self.model)
    #expect(twice.problems.first?.message.contains("twice") == true)
  }

  @Test func desiredValues() {
    let device = device([
      ["name": "setpoint", "desired": ["value": "21"]], ["name": "temperature", "desired": ["value": ""]],
      ["name": "odd"],
    ])
    #expect(DeviceConfiguration.desired(device) == ["setpoint": "21"])
  }
}
