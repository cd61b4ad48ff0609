import Glibc

#if Devices
  exit(Simulator.run(Array(CommandLine.arguments.dropFirst())))
#else
  print("modbus-simulator was built without libmodbus: install libmodbus-dev and build with --traits Devices")
  exit(1)
#endif
