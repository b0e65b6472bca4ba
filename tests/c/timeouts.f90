! Both roles over a socket that times out once, at a given byte. The call is then repeated: see
! interrupt.c.
!
!   timeouts ROLE HOW PORT TIMES: TIMES connections to PORT. Connection n times out before byte n of
!   what is received and sent. The program prints a line for each connection: the number of right
!   evaluations, the status, the text.
!
!   ROLE HOW: driver serve    %serve; asks for INIT
!             driver steps    %receive and %reply
!             server evaluate %evaluate
!             server classic  the same with FORCEWIRE_CLASSIC
!             server discard  %evaluate; after a time-out %discard, and another structure
!             server other    %evaluate; after a time-out another structure at once
!             server steps    %status, %initialize, %send_positions and %get_forces

module echoes
   use, intrinsic :: iso_c_binding
   use forcewire
   implicit none
   integer, parameter :: dp = c_double

   !> A potential whose forces are the positions.
   type, extends(forcewire_potential) :: echo
      integer :: evaluations = 0
   contains
      procedure :: evaluate
   end type

   interface
      subroutine interrupt_before(byte) bind(c)
         import
         integer(c_int), value :: byte
      end subroutine
      integer(c_int) function interrupted() bind(c)
         import
      end function
      subroutine open_socket(socket, inet, port, host, prefix) bind(c)
         import
         integer(c_int) :: socket, inet, port
         character(kind=c_char) :: host(*), prefix(*)
      end subroutine
   end interface

contains

   subroutine evaluate(self, cell, positions, energy, forces, virial, stat)
      class(echo), intent(inout) :: self
      real(dp), intent(in) :: cell(3, 3), positions(:, :)
      real(dp), intent(inout) :: energy, forces(:, :), virial(3, 3)
      integer, intent(inout) :: stat
      stat = merge(0, 1, abs(cell(1, 1) - 10) < 1d-9)
      energy = 1.5d0
      forces = positions
      virial = 0
      self%evaluations = self%evaluations + 1
   end subroutine
end module

program timeouts
   use echoes
   implicit none
   type(forcewire_driver) :: driver
   type(forcewire_server) :: server
   ! Shorter than a time-out of interrupt.c.
   type(forcewire_options), parameter :: options = forcewire_options(message=1d-3, evaluation=1d-3)
   character(len=16) :: role, how, text
   character(len=:), allocatable :: why
   integer :: n, times, port, evaluations, stat
   call get_command_argument(1, role)
   call get_command_argument(2, how)
   call get_command_argument(3, text)
   read (text, *) port
   call get_command_argument(4, text)
   read (text, *) times
   do n = 0, times - 1
      evaluations = 0
      if (role == "driver") then
         call drive
         why = driver%error()
         call driver%close
      else
         call ask
         why = server%error()
         call server%close
      end if
      if (interrupted() == 0) why = "no time-out"
      print "(i0, 1x, i0, 1x, a)", evaluations, stat, why
      flush (6)
   end do

contains

   subroutine drive
      type(echo) :: potential
      real(dp), allocatable :: positions(:, :), forces(:, :)
      real(dp) :: cell(3, 3), energy, virial(3, 3)
      integer :: event
      character(len=16) :: address
      write (address, "(a, i0)") "127.0.0.1:", port
      call interrupt_before(n)
      call driver%connect(address, merge(FORCEWIRE_INIT_ONCE, 0, how == "serve"), options, stat)
      if (stat /= FORCEWIRE_OK) return
      if (how == "serve") then
         do
            call driver%serve(potential, stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         evaluations = potential%evaluations
         return
      end if
      do
         do
            call driver%receive(event, cell, positions, stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         if (stat /= FORCEWIRE_OK .or. event == FORCEWIRE_EVENT_EXIT) return
         if (event /= FORCEWIRE_EVENT_POSITIONS) cycle
         if (allocated(forces)) deallocate (forces)
         allocate (forces, mold=positions)
         call potential%evaluate(cell, positions, energy, forces, virial, stat)
         evaluations = potential%evaluations
         do
            call driver%reply(energy, forces, virial, stat=stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         if (stat /= FORCEWIRE_OK) return
      end do
   end subroutine

   subroutine ask
      real(dp) :: positions(3, 2), forces(3, 2), energy
      character(len=:), allocatable :: extras
      integer(c_int) :: socket, inet, where
      integer :: i, structure
      inet = 1
      where = port
      call open_socket(socket, inet, where, "127.0.0.1"//c_null_char, c_null_char)
      call interrupt_before(n)
      call server%adopt(socket, merge(FORCEWIRE_CLASSIC, 0, how == "classic"), options, stat)
      do structure = 0, 1
         if (stat /= FORCEWIRE_OK) return
         positions = reshape([(50*structure + i/8d0 + 1, i=0, 5)], [3, 2])
         if (how == "steps") then
            call steps(positions, energy, forces, extras)
         else
            call whole(positions, energy, forces, extras)
         end if
         if (stat /= FORCEWIRE_OK) return
         if (abs(energy - 1.5d0) > 0 .or. any(abs(forces - positions) > 0) .or. extras /= "{""extra"":1}") then
            stat = 100
            return
         end if
         evaluations = evaluations + 1
      end do
      do
         call server%exit(stat)
         if (stat /= FORCEWIRE_TIMED_OUT) return
      end do
   end subroutine

   function cube()
      real(dp) :: cube(3, 3)
      cube = reshape([10, 0, 0, 0, 10, 0, 0, 0, 10], [3, 3])
   end function

   subroutine whole(positions, energy, forces, extras)
      real(dp), intent(inout) :: positions(3, 2)
      real(dp), intent(out) :: energy, forces(3, 2)
      character(len=:), allocatable, intent(out) :: extras
      real(dp) :: virial(3, 3)
      forces = 0
      do
         call server%evaluate(cube(), positions, energy, forces, virial, extras, stat)
         if (stat /= FORCEWIRE_TIMED_OUT) return
         if (how == "other") positions = positions + 1000
         if (how /= "discard") cycle
         do
            call server%discard(stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         ! Otherwise the structure was sent in part, so continue with the same one.
         if (stat == FORCEWIRE_OK) positions = positions + 1000
      end do
   end subroutine

   subroutine steps(positions, energy, forces, extras)
      real(dp), intent(in) :: positions(3, 2)
      real(dp), intent(out) :: energy, forces(3, 2)
      character(len=:), allocatable, intent(out) :: extras
      real(dp) :: virial(3, 3)
      integer :: known
      forces = 0
      do
         do
            call server%status(known, stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         if (stat /= FORCEWIRE_OK) return
         if (iand(known, FORCEWIRE_NEEDS_INIT) == 0) exit
         do
            call server%initialize(7, "k:1", stat)
            if (stat /= FORCEWIRE_TIMED_OUT) exit
         end do
         if (stat /= FORCEWIRE_OK) return
      end do
      do
         call server%send_positions(cube(), positions, stat)
         if (stat /= FORCEWIRE_TIMED_OUT) exit
      end do
      if (stat /= FORCEWIRE_OK) return
      do
         call server%get_forces(energy, forces, virial, extras, stat)
         if (stat /= FORCEWIRE_TIMED_OUT) return
      end do
   end subroutine
end program
