import DeviceDrivers
import DeviceSDK
import Glibc

#if Devices
  DriverProcess.run(name: "device-modbus") { ModbusDriver(scheduler: $0) }
#else
  print("device-modbus was built without libmodbus: install libmodbus-dev and build with --traits Devices")
  exit(1)
#endif
