! All calls of the Fortran module. The first argument is one of:
!
!   serve PORT    a driver whose potential tells indices apart, until EXIT
!   steps PORT    the same step by step, with INIT, extras, and arrays that change
!   nan PORT      a driver that replies with forces that are not finite, and closes the connection
!   stop PORT     the same without stat: the program ends
!   ask PORT      a server that asks twice, the first time step by step
!   misuse        calls that make no sense

module told_apart
   use, intrinsic :: iso_c_binding
   use forcewire
   implicit none

   type, extends(forcewire_potential) :: apart
      integer :: evaluations = 0
   contains
      procedure :: evaluate
   end type

contains

   subroutine evaluate(self, cell, positions, energy, forces, virial, stat)
      class(apart), intent(inout) :: self
      real(c_double), intent(in) :: cell(3, 3), positions(:, :)
      real(c_double), intent(inout) :: energy, forces(:, :), virial(3, 3)
      integer, intent(inout) :: stat
      self%evaluations = self%evaluations + 1
      call compute(cell, positions, energy, forces, virial)
      if (positions(1, 1) < 0) stat = 17
   end subroutine

   ! Vector b is (2, 20, 0), and so on.
   subroutine compute(cell, positions, energy, forces, virial)
      real(c_double), intent(in) :: cell(3, 3), positions(:, :)
      real(c_double), intent(out) :: energy, forces(:, :), virial(3, 3)
      if (any(cell(:, 1) /= [10, 0, 0]) .or. any(cell(:, 2) /= [2, 20, 0]) .or. any(cell(:, 3) /= [3, 4, 30])) stop 10
      energy = 1.5d0
      forces = positions
      virial = reshape([11, 21, 31, 12, 22, 32, 13, 23, 33], [3, 3])
   end subroutine
end module

program module_test
   use, intrinsic :: ieee_arithmetic, only: ieee_quiet_nan, ieee_value
   use told_apart
   implicit none
   type(forcewire_driver) :: driver
   type(forcewire_server) :: server
   type(apart) :: potential
   character(len=32) :: what, port
   integer :: stat

   call get_command_argument(1, what)
   call get_command_argument(2, port)
   select case (what)
   case ("serve")
      call driver%connect("127.0.0.1:"//port)
      call driver%serve(potential, stat)
      print "(i0, 1x, i0, 1x, a)", potential%evaluations, stat, driver%error()
   case ("steps")
      call steps
   case ("nan", "stop")
      call not_finite
   case ("ask")
      call ask
   case default
      call misuse
   end select
   call driver%close
   call server%close

contains

   subroutine steps
      real(c_double), allocatable :: r(:, :), f(:, :)
      real(c_double) :: cell(3, 3), energy, virial(3, 3)
      integer :: event
      call driver%connect("127.0.0.1:"//port, flags=FORCEWIRE_INIT_EVERY_STEP + FORCEWIRE_CHANGING_ATOMS)
      do
         call driver%receive(event, cell, r)
         if (event == FORCEWIRE_EVENT_EXIT) exit
         if (event == FORCEWIRE_EVENT_INIT) then
            print "(i0, 1x, a)", driver%replica(), driver%init_text()
            cycle
         end if
         if (allocated(f)) deallocate (f)
         allocate (f, mold=r)
         call compute(cell, r, energy, f, virial)
         call driver%reply(energy, f, virial, extras="{""dipole"": 1}")
      end do
   end subroutine

   subroutine not_finite
      interface
         subroutine c_sleep(seconds) bind(c)
            import
            real(c_double), value :: seconds
         end subroutine
      end interface
      real(c_double), allocatable :: r(:, :), f(:, :)
      real(c_double) :: cell(3, 3), virial(3, 3)
      integer :: event
      call driver%connect("127.0.0.1:"//port)
      call driver%receive(event, cell, r)
      ! Meanwhile the server asks for the forces.
      call c_sleep(0.2d0)
      allocate (f, mold=r)
      f = ieee_value(1d0, ieee_quiet_nan)
      virial = 0
      if (what == "stop") call driver%reply(0d0, f, virial)
      call driver%reply(0d0, f, virial, stat=stat)
      call expect(FORCEWIRE_NOT_FINITE, driver%error(), "forces")
   end subroutine

   subroutine ask
      real(c_double) :: cell(3, 3), r(3, 2), f(3, 2), energy, virial(3, 3)
      real(c_double) :: every(3, 4)
      character(len=:), allocatable :: extras
      integer :: known, i
      cell = reshape([10, 0, 0, 2, 20, 0, 3, 4, 30], [3, 3])
      r = reshape([(i/8d0, i=0, 5)], [3, 2])
      every = 0
      every(:, ::2) = r
      call server%accept("127.0.0.1:"//port, flags=FORCEWIRE_CLASSIC)
      call server%status(known)
      if (known /= FORCEWIRE_UP + FORCEWIRE_NEEDS_INIT) stop 11
      call server%initialize(7, "k:1")
      call server%status(known)
      if (known /= FORCEWIRE_UP + FORCEWIRE_READY) stop 12
      call server%send_positions(cell, r)
      call server%get_forces(energy, f, virial, extras)
      if (energy /= 1.5d0 .or. any(f /= r) .or. extras /= "{""dipole"": 1}") stop 13
      ! The virial is symmetric, as i-PI makes it.
      if (any(virial /= reshape([22, 33, 44, 33, 44, 55, 44, 55, 66], [3, 3])/2d0)) stop 14
      ! An array that is not contiguous is copied.
      f = 0
      call server%evaluate(cell, every(:, ::2), energy, f, virial)
      if (any(f /= r)) stop 15
      call server%exit
   end subroutine

   subroutine misuse
      real(c_double), allocatable :: r(:, :)
      real(c_double) :: cell(3, 3), energy, virial(3, 3), f(3, 2), flat(2, 3)
      integer :: event
      cell = 0
      virial = 0
      flat = 0
      f = 0
      call driver%receive(event, cell, r, stat)
      call expect(FORCEWIRE_INVALID_ARGUMENT, driver%error(), "never initialized")
      call driver%connect("nowhere", stat=stat)
      call expect(FORCEWIRE_INVALID_ARGUMENT, driver%error(), "nowhere")
      call driver%connect("127.0.0.1:1", options=forcewire_options(connect=1d-9), stat=stat)
      if (stat == FORCEWIRE_OK) stop 20
      call expect(stat, driver%error(), "127.0.0.1:1")
      call driver%receive(event, cell, r, stat)
      call expect(FORCEWIRE_NOT_CONNECTED, driver%error(), "connect")
      call driver%reply(0d0, flat, virial, stat=stat)
      call expect(FORCEWIRE_INVALID_ARGUMENT, driver%error(), "(3, natoms)")
      call driver%adopt(-1, stat=stat)
      call expect(FORCEWIRE_INVALID_ARGUMENT, driver%error(), "")
      call server%accept("127.0.0.1:0", options=forcewire_options(connect=1d-9), stat=stat)
      call expect(FORCEWIRE_TIMED_OUT, server%error(), "was it started?")
      call server%evaluate(cell, f(:, :1), energy, f, virial, stat=stat)
      call expect(FORCEWIRE_INVALID_ARGUMENT, server%error(), "forces as long as positions")
      call server%evaluate(cell, reshape(flat, [3, 2]), energy, f, virial, stat=stat)
      call expect(FORCEWIRE_NOT_CONNECTED, server%error(), "connect")
      if (energy == energy) stop 23
      ! Without stat this failure ends the program.
      call server%exit
      stop 21
   end subroutine

   subroutine expect(status, text, words)
      integer, intent(in) :: status
      character(len=*), intent(in) :: text, words
      if (stat == status .and. index(text, words) > 0) return
      print "(i0, 3a)", stat, ": ", text, " does not say "//words
      stop 22
   end subroutine
end program
