!> forcewire for Fortran: both sides of the i-PI protocol, on top of libforcewire. The comments of
!> forcewire.h describe each call in more detail.
!>
!> Compile this file with your program (Fortran 2008) and link libforcewire.a. examples/c has
!> programs and the commands.
!>
!> Atomic units: bohr, hartree, hartree/bohr. All reals are 8 bytes. Which index is which:
!>
!>     positions(3, nat)   positions(:, i) is atom i, as are forces(:, i); what is not contiguous is
!>                         copied
!>     cell(3, 3)          cell(:, j) is lattice vector j, cell(i, j) its component i:
!>                         r = matmul(cell, s)
!>     virial(3, 3)        virial(i, j) is the sum of r(i) f(j) over atoms: -dU/de of a strain e,
!>                         not divided by the volume
!>
!> On the wire and in C a matrix is row-major. This module transposes it, so callers don't have to.
!>
!> A procedure that can fail has an optional last argument stat, as allocate has. It is FORCEWIRE_OK
!> or the error, which %error() describes. Without it a failure prints the error to the error
!> output, closes the connection and ends the program.
!>
!> Drivers and servers must not be copied. Each may be used by one thread at a time; different ones
!> share nothing. %close frees their memory.
!>
!> Every procedure is recursive and no local variable has an initial value. Otherwise all threads
!> would share one variable (gfortran -fno-automatic, ifort without -auto).
module forcewire
   use, intrinsic :: iso_c_binding
   use, intrinsic :: ieee_arithmetic, only: ieee_quiet_nan, ieee_value
   use, intrinsic :: iso_fortran_env, only: error_unit
   implicit none
   private

   ! The status of a call: forcewire_status_t.
   integer, parameter, public :: FORCEWIRE_OK = 0
   integer, parameter, public :: FORCEWIRE_INVALID_ARGUMENT = 1
   integer, parameter, public :: FORCEWIRE_NOT_CONNECTED = 2
   integer, parameter, public :: FORCEWIRE_CLOSED = 3
   integer, parameter, public :: FORCEWIRE_BROKEN = 4
   integer, parameter, public :: FORCEWIRE_TIMED_OUT = 5
   integer, parameter, public :: FORCEWIRE_CONNECTION = 6
   integer, parameter, public :: FORCEWIRE_PROTOCOL = 7
   integer, parameter, public :: FORCEWIRE_OUT_OF_TURN = 8
   integer, parameter, public :: FORCEWIRE_NO_ROOM = 9
   integer, parameter, public :: FORCEWIRE_NOT_FINITE = 10
   integer, parameter, public :: FORCEWIRE_POTENTIAL_FAILED = 11
   integer, parameter, public :: FORCEWIRE_ATOMS_CHANGED = 12
   integer, parameter, public :: FORCEWIRE_INTERNAL = 13

   ! What a driver has received: forcewire_event_kind_t.
   integer, parameter, public :: FORCEWIRE_EVENT_POSITIONS = 0
   integer, parameter, public :: FORCEWIRE_EVENT_INIT = 1
   integer, parameter, public :: FORCEWIRE_EVENT_EXIT = 2
   integer, parameter, public :: FORCEWIRE_EVENT_CLOSED = 3

   ! Flags of drivers.
   integer, parameter, public :: FORCEWIRE_INIT_ONCE = 1
   integer, parameter, public :: FORCEWIRE_INIT_EVERY_STEP = 2
   !> Accept the server's numbers even if they look like integers or have their bytes reversed.
   integer, parameter, public :: FORCEWIRE_TRUST_NUMBER_FORMAT = 32
   ! Flags of drivers and servers.
   integer, parameter, public :: FORCEWIRE_CHANGING_ATOMS = 4
   integer, parameter, public :: FORCEWIRE_NOT_FINITE_TOO = 8
   ! Flags of servers.
   integer, parameter, public :: FORCEWIRE_CLASSIC = 1
   integer, parameter, public :: FORCEWIRE_STRICT = 2
   integer, parameter, public :: FORCEWIRE_FOLD = 16

   ! The status of a driver as a server knows it: a sum of these.
   integer, parameter, public :: FORCEWIRE_UP = 1
   integer, parameter, public :: FORCEWIRE_READY = 2
   integer, parameter, public :: FORCEWIRE_NEEDS_INIT = 4
   integer, parameter, public :: FORCEWIRE_HAS_DATA = 8
   integer, parameter, public :: FORCEWIRE_BUSY = 16

   integer, parameter :: dp = c_double
   !> The size of a handle in words: FORCEWIRE_HANDLE.
   integer, parameter :: HANDLE = 192
   !> The most bytes of a driver's extras to keep.
   integer, parameter :: EXTRAS_ROOM = 65536
   !> The most atoms to allocate memory for: a server can announce any count.
   integer, parameter :: MOST_ATOMS = 10000000
   !> A status that only this module returns: the first dimension of an array is not 3.
   integer, parameter :: MISSHAPEN = -1

   !> Time limits in seconds. 0 means the default. Infinity (ieee_arithmetic) means no limit. With
   !> less than a microsecond, a call makes a single attempt.
   type, bind(c), public :: forcewire_options
      !> How long to wait for the server to listen, or for the driver to connect. Default: a minute.
      real(c_double) :: connect = 0
      !> From the connection to the peer's first message. Default: no limit.
      real(c_double) :: handshake = 0
      !> For each message from its first byte to its last, in both directions, and for answers that
      !> need no computation. Default: a minute.
      real(c_double) :: message = 0
      !> For the peer's computation: until the forces arrive, or the server's next message. Default:
      !> no limit.
      real(c_double) :: evaluation = 0
      !> For a call as a whole. Default: no limit.
      real(c_double) :: exchange = 0
      !> How long the peer's host may be unreachable over TCP, because it or its network is off.
      !> Default: five minutes.
      real(c_double) :: keep_alive = 0
   end type

   !> The potential: extend this type with the parameters that it needs.
   type, abstract, public :: forcewire_potential
   contains
      procedure(evaluate), deferred :: evaluate
   end type

   abstract interface
      !> Computes one structure. Energy, forces and virial are zeros at first; fill them in. A stat
      !> other than 0 ends %serve with FORCEWIRE_POTENTIAL_FAILED.
      subroutine evaluate(self, cell, positions, energy, forces, virial, stat)
         import
         class(forcewire_potential), intent(inout) :: self
         real(c_double), intent(in) :: cell(3, 3), positions(:, :)
         real(c_double), intent(inout) :: energy, forces(:, :), virial(3, 3)
         integer, intent(inout) :: stat
      end subroutine
   end interface

   !> The common part of drivers and servers.
   type, abstract :: connection
      private
      integer(c_int64_t) :: memory(HANDLE) = 0
      character(len=:), allocatable :: why
   contains
      !> Describes the last error, with the peer's name and what to do about it.
      procedure :: error
      procedure, private :: conclude
      procedure(says), private, deferred :: says
      procedure(ends), deferred :: close
   end type

   abstract interface
      !> The library's text of the last error, with a NUL at its end.
      subroutine says(self, text)
         import
         class(connection), intent(in) :: self
         character(len=*, kind=c_char), intent(inout) :: text
      end subroutine
      !> Ends the connection.
      subroutine ends(self)
         import
         class(connection), intent(inout) :: self
      end subroutine
   end interface

   !> A driver: the side that computes forces.
   type, extends(connection), public :: forcewire_driver
      private
      integer(c_int32_t) :: bead = 0
   contains
      !> connect(address [, flags, options, stat]): connects to a server at HOST:PORT, [IPV6]:PORT
      !> or unix:NAME. Without FORCEWIRE_INIT_ONCE or _EVERY_STEP a server sends neither INIT nor
      !> batches.
      procedure :: connect => driver_connect
      !> adopt(socket [, flags, options, stat]): takes over the descriptor of a connected socket.
      procedure :: adopt => driver_adopt
      !> serve(potential [, stat]): computes what the server asks for until the server ends it. If
      !> the server only closes the connection, as ASE's does, stat is FORCEWIRE_CLOSED; without
      !> stat that is not a failure.
      procedure :: serve => driver_serve
      !> receive(event, cell, positions [, stat]): answers the server until there is an event.
      !> Positions are reallocated if the number of atoms has changed.
      procedure :: receive => driver_receive
      !> reply(energy, forces, virial [, extras, stat]): replies to the positions received last.
      !> i-PI hangs on extras that are not a JSON object.
      procedure :: reply => driver_reply
      !> The replica (bead) that the last INIT named; 0 before any INIT.
      procedure :: replica => driver_replica
      !> The text of the last INIT, at most 256 bytes of it.
      procedure :: init_text => driver_init_text
      procedure, private :: says => driver_says
      !> Ends the connection. The driver can be connected again. If positions got no reply, the call
      !> first reads everything that the server sent with them, because i-PI 3.3.1 hangs if a driver
      !> closes the connection with bytes unread: see forcewire_driver_close in forcewire.h.
      procedure :: close => driver_close
   end type

   !> A server: the side that asks for forces.
   type, extends(connection), public :: forcewire_server
      private
      !> The buffer for extras. It is kept between calls: a repeated call needs the memory in which
      !> some of the extras already are.
      character(len=:), allocatable :: buffer
   contains
      !> accept(address [, flags, options, stat]): listens until one driver has connected.
      procedure :: accept => server_accept
      !> adopt(socket [, flags, options, stat]): takes over the descriptor of a connected socket.
      procedure :: adopt => server_adopt
      !> evaluate(cell, positions, energy, forces, virial [, extras, stat]): lets the driver compute
      !> one structure, with all messages that this needs. The cell must be upper triangular:
      !> cell(i, j) = 0 where i > j. The first 64 KiB of the extras are kept.
      procedure :: evaluate => server_evaluate
      !> status(known [, stat]): asks the driver for its status, a sum of FORCEWIRE_READY and the
      !> like.
      procedure :: status => server_status
      !> initialize(replica, text [, stat]): sends INIT to a driver that needs it.
      procedure :: initialize => server_initialize
      !> send_positions(cell, positions [, stat]): sends a structure to a driver that is ready.
      procedure :: send_positions => server_send_positions
      !> get_forces(energy, forces, virial [, extras, stat]): waits until the driver has computed
      !> and receives its forces.
      procedure :: get_forces => server_get_forces
      !> discard([stat]): waits for the forces that the driver owes and drops them. Another
      !> structure can then be evaluated after a time-out.
      procedure :: discard => server_discard
      !> exit([stat]): sends EXIT to the driver and waits until it has closed the connection.
      procedure :: exit => server_exit
      procedure, private :: says => server_says
      !> Ends the connection. The server can accept another driver.
      procedure :: close => server_close
   end type

   ! The derived types of forcewire.h. Their matrices are C's: transposed.
   type, bind(c) :: c_event
      integer(c_int) :: kind
      integer(c_int32_t) :: replica
      integer(c_size_t) :: natoms
      real(c_double) :: cell(3, 3)
   end type

   type, bind(c) :: c_evaluation
      real(c_double) :: energy
      real(c_double) :: virial(3, 3)
   end type

   type, bind(c) :: c_answer
      real(c_double) :: energy
      real(c_double) :: virial(3, 3)
      integer(c_size_t) :: extras_size
   end type

   !> The context that the library passes to our function.
   type :: work
      class(forcewire_potential), pointer :: potential
   end type

   interface
      integer(c_int) function forcewire_driver_init(driver, flags) bind(c)
         import
         integer(c_int64_t), intent(out) :: driver(*)
         integer(c_int32_t), value :: flags
      end function
      integer(c_int) function forcewire_driver_connect(driver, address, options) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
         character(kind=c_char), intent(in) :: address(*)
         type(forcewire_options), intent(in) :: options
      end function
      integer(c_int) function forcewire_driver_adopt(driver, socket, options) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
         integer(c_int), value :: socket
         type(forcewire_options), intent(in) :: options
      end function
      integer(c_int) function forcewire_driver_serve(driver, potential, context, positions, forces, capacity) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
         type(c_funptr), value :: potential
         type(c_ptr), value :: context, positions, forces
         integer(c_size_t), value :: capacity
      end function
      integer(c_int) function forcewire_driver_receive(driver, positions, capacity, event) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
         real(c_double), intent(inout) :: positions(3, *)
         integer(c_size_t), value :: capacity
         type(c_event), intent(inout) :: event
      end function
      integer(c_int) function forcewire_driver_reply(driver, evaluation, forces, natoms, extras, extras_size) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
         type(c_evaluation), intent(in) :: evaluation
         real(c_double), intent(in) :: forces(3, *)
         integer(c_size_t), value :: natoms, extras_size
         character(kind=c_char), intent(in) :: extras(*)
      end function
      type(c_ptr) function forcewire_driver_init_text(driver, size) bind(c)
         import
         integer(c_int64_t), intent(in) :: driver(*)
         integer(c_size_t), intent(out) :: size
      end function
      type(c_ptr) function forcewire_driver_error(driver, text, size) bind(c)
         import
         integer(c_int64_t), intent(in) :: driver(*)
         character(kind=c_char), intent(inout) :: text(*)
         integer(c_size_t), value :: size
      end function
      integer(c_int) function forcewire_driver_close(driver) bind(c)
         import
         integer(c_int64_t), intent(inout) :: driver(*)
      end function
      integer(c_int) function forcewire_server_init(server, flags) bind(c)
         import
         integer(c_int64_t), intent(out) :: server(*)
         integer(c_int32_t), value :: flags
      end function
      integer(c_int) function forcewire_server_accept(server, address, options) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         character(kind=c_char), intent(in) :: address(*)
         type(forcewire_options), intent(in) :: options
      end function
      integer(c_int) function forcewire_server_adopt(server, socket, options) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         integer(c_int), value :: socket
         type(forcewire_options), intent(in) :: options
      end function
      integer(c_int) function forcewire_server_evaluate(server, cell, positions, forces, natoms, answer, extras, &
                                                        extras_size) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         real(c_double), intent(in) :: cell(3, 3), positions(3, *)
         real(c_double), intent(inout) :: forces(3, *)
         integer(c_size_t), value :: natoms, extras_size
         type(c_answer), intent(inout) :: answer
         character(kind=c_char), intent(inout) :: extras(*)
      end function
      integer(c_int) function forcewire_server_status(server, status) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         integer(c_int32_t), intent(inout) :: status
      end function
      integer(c_int) function forcewire_server_initialize(server, replica, text, size) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         integer(c_int32_t), value :: replica
         character(kind=c_char), intent(in) :: text(*)
         integer(c_size_t), value :: size
      end function
      integer(c_int) function forcewire_server_send_positions(server, cell, positions, natoms) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         real(c_double), intent(in) :: cell(3, 3), positions(3, *)
         integer(c_size_t), value :: natoms
      end function
      integer(c_int) function forcewire_server_get_forces(server, forces, natoms, answer, extras, extras_size) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
         real(c_double), intent(inout) :: forces(3, *)
         integer(c_size_t), value :: natoms, extras_size
         type(c_answer), intent(inout) :: answer
         character(kind=c_char), intent(inout) :: extras(*)
      end function
      integer(c_int) function forcewire_server_discard(server) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
      end function
      integer(c_int) function forcewire_server_exit(server) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
      end function
      type(c_ptr) function forcewire_server_error(server, text, size) bind(c)
         import
         integer(c_int64_t), intent(in) :: server(*)
         character(kind=c_char), intent(inout) :: text(*)
         integer(c_size_t), value :: size
      end function
      integer(c_int) function forcewire_server_close(server) bind(c)
         import
         integer(c_int64_t), intent(inout) :: server(*)
      end function
   end interface

contains

   ! ---- the side that computes ----

   recursive subroutine driver_connect(self, address, flags, options, stat)
      class(forcewire_driver), intent(inout) :: self
      character(len=*), intent(in) :: address
      integer, intent(in), optional :: flags
      type(forcewire_options), intent(in), optional :: options
      integer, intent(out), optional :: stat
      integer :: status
      call self%close
      status = forcewire_driver_init(self%memory, given(flags))
      if (status == FORCEWIRE_OK) &
         status = forcewire_driver_connect(self%memory, trim(address)//c_null_char, given_options(options))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine driver_adopt(self, socket, flags, options, stat)
      class(forcewire_driver), intent(inout) :: self
      integer, intent(in) :: socket
      integer, intent(in), optional :: flags
      type(forcewire_options), intent(in), optional :: options
      integer, intent(out), optional :: stat
      integer :: status
      call self%close
      status = forcewire_driver_init(self%memory, given(flags))
      if (status == FORCEWIRE_OK) status = forcewire_driver_adopt(self%memory, int(socket, c_int), given_options(options))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine driver_serve(self, potential, stat)
      class(forcewire_driver), intent(inout) :: self
      class(forcewire_potential), intent(inout), target :: potential
      integer, intent(out), optional :: stat
      type(work), target :: task
      integer :: status
      task%potential => potential
      status = forcewire_driver_serve(self%memory, c_funloc(compute), c_loc(task), c_null_ptr, c_null_ptr, 0_c_size_t)
      if (status == FORCEWIRE_CLOSED .and. .not. present(stat)) return
      call self%conclude(status, stat)
   end subroutine

   !> A forcewire_potential_t. The procedure has no binding name that could clash.
   recursive integer(c_int) function compute(context, cell, positions, forces, natoms, evaluation) bind(c, name="")
      type(c_ptr), value :: context, positions, forces
      real(c_double), intent(in) :: cell(3, 3)
      integer(c_size_t), value :: natoms
      type(c_evaluation), intent(inout) :: evaluation
      type(work), pointer :: task
      real(c_double), pointer :: x(:, :), f(:, :)
      real(c_double) :: virial(3, 3)
      integer :: stat
      call c_f_pointer(context, task)
      call c_f_pointer(positions, x, [3_c_size_t, natoms])
      call c_f_pointer(forces, f, [3_c_size_t, natoms])
      stat = 0
      virial = 0
      call task%potential%evaluate(transpose(cell), x, evaluation%energy, f, virial, stat)
      evaluation%virial = transpose(virial)
      compute = int(stat, c_int)
   end function

   recursive subroutine driver_receive(self, event, cell, positions, stat)
      class(forcewire_driver), intent(inout) :: self
      integer, intent(out) :: event
      real(dp), intent(out) :: cell(3, 3)
      real(dp), allocatable, intent(inout) :: positions(:, :)
      integer, intent(out), optional :: stat
      type(c_event) :: received
      integer :: status
      received = c_event(FORCEWIRE_EVENT_CLOSED, 0, 0, 0)
      if (.not. allocated(positions)) allocate (positions(3, 0))
      status = check(positions)
      if (status == FORCEWIRE_OK) then
         status = forcewire_driver_receive(self%memory, positions, atoms(positions), received)
         if (status == FORCEWIRE_NO_ROOM .and. received%natoms <= MOST_ATOMS) then
            deallocate (positions)
            allocate (positions(3, received%natoms))
            status = forcewire_driver_receive(self%memory, positions, atoms(positions), received)
         end if
      end if
      event = received%kind
      cell = transpose(received%cell)
      self%bead = received%replica
      if (status == FORCEWIRE_OK .and. event == FORCEWIRE_EVENT_POSITIONS) then
         if (atoms(positions) > received%natoms) positions = positions(:, :received%natoms)
      end if
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine driver_reply(self, energy, forces, virial, extras, stat)
      class(forcewire_driver), intent(inout) :: self
      real(dp), intent(in) :: energy, virial(3, 3)
      real(dp), contiguous, intent(in) :: forces(:, :)
      character(len=*), intent(in), optional :: extras
      integer, intent(out), optional :: stat
      type(c_evaluation) :: evaluation
      integer :: status
      evaluation = c_evaluation(energy, transpose(virial))
      status = check(forces)
      if (status == FORCEWIRE_OK) then
         if (present(extras)) then
            status = forcewire_driver_reply(self%memory, evaluation, forces, atoms(forces), extras, &
                                            len(extras, c_size_t))
         else
            status = forcewire_driver_reply(self%memory, evaluation, forces, atoms(forces), "", 0_c_size_t)
         end if
      end if
      call self%conclude(status, stat)
   end subroutine

   recursive integer function driver_replica(self)
      class(forcewire_driver), intent(in) :: self
      driver_replica = self%bead
   end function

   recursive function driver_init_text(self) result(text)
      class(forcewire_driver), intent(in) :: self
      character(len=:), allocatable :: text
      character(kind=c_char), pointer :: bytes(:)
      integer(c_size_t) :: size
      integer :: i
      type(c_ptr) :: at
      at = forcewire_driver_init_text(self%memory, size)
      call c_f_pointer(at, bytes, [size])
      allocate (character(len=size) :: text)
      do i = 1, int(size)
         text(i:i) = bytes(i)
      end do
   end function

   recursive subroutine driver_says(self, text)
      class(forcewire_driver), intent(in) :: self
      character(len=*, kind=c_char), intent(inout) :: text
      type(c_ptr) :: unused
      unused = forcewire_driver_error(self%memory, text, len(text, c_size_t))
   end subroutine

   recursive subroutine driver_close(self)
      class(forcewire_driver), intent(inout) :: self
      integer(c_int) :: unused
      unused = forcewire_driver_close(self%memory)
   end subroutine

   ! ---- the side that asks ----

   recursive subroutine server_accept(self, address, flags, options, stat)
      class(forcewire_server), intent(inout) :: self
      character(len=*), intent(in) :: address
      integer, intent(in), optional :: flags
      type(forcewire_options), intent(in), optional :: options
      integer, intent(out), optional :: stat
      integer :: status
      call self%close
      status = forcewire_server_init(self%memory, given(flags))
      if (status == FORCEWIRE_OK) &
         status = forcewire_server_accept(self%memory, trim(address)//c_null_char, given_options(options))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_adopt(self, socket, flags, options, stat)
      class(forcewire_server), intent(inout) :: self
      integer, intent(in) :: socket
      integer, intent(in), optional :: flags
      type(forcewire_options), intent(in), optional :: options
      integer, intent(out), optional :: stat
      integer :: status
      call self%close
      status = forcewire_server_init(self%memory, given(flags))
      if (status == FORCEWIRE_OK) status = forcewire_server_adopt(self%memory, int(socket, c_int), given_options(options))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_evaluate(self, cell, positions, energy, forces, virial, extras, stat)
      class(forcewire_server), intent(inout) :: self
      real(dp), intent(in) :: cell(3, 3)
      real(dp), contiguous, intent(in) :: positions(:, :)
      real(dp), intent(out) :: energy, virial(3, 3)
      real(dp), contiguous, intent(inout) :: forces(:, :)
      character(len=:), allocatable, intent(out), optional :: extras
      integer, intent(out), optional :: stat
      type(c_answer) :: answer
      integer :: status
      call make_room(self, merge(EXTRAS_ROOM, 0, present(extras)))
      answer = c_answer(0, 0, 0)
      status = check(positions, forces)
      if (status == FORCEWIRE_OK) &
         status = forcewire_server_evaluate(self%memory, transpose(cell), positions, forces, atoms(forces), answer, &
                                            self%buffer, len(self%buffer, c_size_t))
      call take(status, answer, energy, virial)
      ! Not done in take: there gfortran 12 loses the length of extras when it returns.
      if (present(extras)) extras = self%buffer(:min(answer%extras_size, len(self%buffer, c_size_t)))
      if (status /= FORCEWIRE_TIMED_OUT) deallocate (self%buffer)
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_status(self, known, stat)
      class(forcewire_server), intent(inout) :: self
      integer, intent(out) :: known
      integer, intent(out), optional :: stat
      integer(c_int32_t) :: flags
      integer :: status
      flags = 0
      status = forcewire_server_status(self%memory, flags)
      known = flags
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_initialize(self, replica, text, stat)
      class(forcewire_server), intent(inout) :: self
      integer, intent(in) :: replica
      character(len=*), intent(in) :: text
      integer, intent(out), optional :: stat
      integer :: status
      status = forcewire_server_initialize(self%memory, int(replica, c_int32_t), text, len(text, c_size_t))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_send_positions(self, cell, positions, stat)
      class(forcewire_server), intent(inout) :: self
      real(dp), intent(in) :: cell(3, 3)
      real(dp), contiguous, intent(in) :: positions(:, :)
      integer, intent(out), optional :: stat
      integer :: status
      status = check(positions)
      if (status == FORCEWIRE_OK) &
         status = forcewire_server_send_positions(self%memory, transpose(cell), positions, atoms(positions))
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_get_forces(self, energy, forces, virial, extras, stat)
      class(forcewire_server), intent(inout) :: self
      real(dp), intent(out) :: energy, virial(3, 3)
      real(dp), contiguous, intent(inout) :: forces(:, :)
      character(len=:), allocatable, intent(out), optional :: extras
      integer, intent(out), optional :: stat
      type(c_answer) :: answer
      integer :: status
      call make_room(self, merge(EXTRAS_ROOM, 0, present(extras)))
      answer = c_answer(0, 0, 0)
      status = check(forces)
      if (status == FORCEWIRE_OK) &
         status = forcewire_server_get_forces(self%memory, forces, atoms(forces), answer, self%buffer, &
                                              len(self%buffer, c_size_t))
      call take(status, answer, energy, virial)
      ! Not done in take: there gfortran 12 loses the length of extras when it returns.
      if (present(extras)) extras = self%buffer(:min(answer%extras_size, len(self%buffer, c_size_t)))
      if (status /= FORCEWIRE_TIMED_OUT) deallocate (self%buffer)
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_discard(self, stat)
      class(forcewire_server), intent(inout) :: self
      integer, intent(out), optional :: stat
      integer :: status
      status = forcewire_server_discard(self%memory)
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_exit(self, stat)
      class(forcewire_server), intent(inout) :: self
      integer, intent(out), optional :: stat
      integer :: status
      status = forcewire_server_exit(self%memory)
      call self%conclude(status, stat)
   end subroutine

   recursive subroutine server_says(self, text)
      class(forcewire_server), intent(in) :: self
      character(len=*, kind=c_char), intent(inout) :: text
      type(c_ptr) :: unused
      unused = forcewire_server_error(self%memory, text, len(text, c_size_t))
   end subroutine

   recursive subroutine server_close(self)
      class(forcewire_server), intent(inout) :: self
      integer(c_int) :: unused
      unused = forcewire_server_close(self%memory)
      if (allocated(self%buffer)) deallocate (self%buffer)
   end subroutine

   ! ---- what both share ----

   recursive function error(self) result(text)
      class(connection), intent(in) :: self
      character(len=:), allocatable :: text
      text = "all is well"
      if (allocated(self%why)) text = self%why
   end function

   !> Every call ends here: sets stat, or ends the program on a failure.
   recursive subroutine conclude(self, status, stat)
      class(connection), intent(inout) :: self
      integer, intent(in) :: status
      integer, intent(out), optional :: stat
      character(len=512, kind=c_char) :: text
      if (allocated(self%why)) deallocate (self%why)
      if (status == MISSHAPEN) then
         self%why = "arrays of atoms are (3, natoms), forces as long as positions"
      else if (status /= FORCEWIRE_OK) then
         call self%says(text)
         self%why = text(:index(text, c_null_char) - 1)
      end if
      if (present(stat)) then
         stat = merge(FORCEWIRE_INVALID_ARGUMENT, status, status == MISSHAPEN)
      else if (status /= FORCEWIRE_OK) then
         write (error_unit, "(2a)") "forcewire: ", self%why
         flush (error_unit)
         ! If the program ended with bytes unread, the system would reset the connection.
         call self%close
         stop 1
      end if
   end subroutine

   !> The number of atoms of an array.
   recursive integer(c_size_t) function atoms(array)
      real(dp), intent(in) :: array(:, :)
      atoms = size(array, 2, c_size_t)
   end function

   recursive integer function check(array, other)
      real(dp), intent(in) :: array(:, :)
      real(dp), intent(in), optional :: other(:, :)
      check = merge(FORCEWIRE_OK, MISSHAPEN, size(array, 1) == 3)
      if (present(other)) then
         if (any(shape(array) /= shape(other))) check = MISSHAPEN
      end if
   end function

   recursive integer(c_int32_t) function given(flags)
      integer, intent(in), optional :: flags
      given = 0
      if (present(flags)) given = int(flags, c_int32_t)
   end function

   recursive type(forcewire_options) function given_options(options)
      type(forcewire_options), intent(in), optional :: options
      given_options = forcewire_options()
      if (present(options)) given_options = options
   end function

   recursive subroutine make_room(self, room)
      class(forcewire_server), intent(inout) :: self
      integer, intent(in) :: room
      if (allocated(self%buffer)) then
         if (len(self%buffer) == room) return
         deallocate (self%buffer)
      end if
      allocate (character(len=room) :: self%buffer)
   end subroutine

   !> Reads the numbers of an answer; sets NaN if there is none.
   recursive subroutine take(status, answer, energy, virial)
      integer, intent(in) :: status
      type(c_answer), intent(in) :: answer
      real(dp), intent(out) :: energy, virial(3, 3)
      energy = answer%energy
      virial = transpose(answer%virial)
      if (status == FORCEWIRE_OK) return
      energy = ieee_value(energy, ieee_quiet_nan)
      virial = energy
   end subroutine
end module
